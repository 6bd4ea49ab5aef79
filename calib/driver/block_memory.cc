#include "calib/driver/block_memory.h"

#include <algorithm>
#include <map>
#include <vector>

#include "calib/driver/experts_pass.h"
#include "calib/stats/stats_collector.h"
#include "lib/activations/block_size.h"

namespace lathe {
namespace {

constexpr uint64_t kFloat = 4, kDouble = 8;
/// Copies of the weights of an input's linears that folds, solvers and the report hold at a time: scaled,
/// rounded, and their difference.
constexpr uint64_t kSolverCopies = 3;
/// Columns of a Gram matrix that are multiplied at a time (calib/stats/gram.cc).
constexpr uint64_t kPanelColumns = 512;
/// What of the sums is let go before the system gets it back.
constexpr uint64_t kReturnedBytes = uint64_t{16} << 20;
/// Bytes of counts for each channel's percentiles, and for those of a tensor (calib/stats/distribution.h).
constexpr uint64_t kChannelCounts = 4 * 2304, kTensorCounts = uint64_t{4} << 20;

/// One input with the linears that read it and are solved.
struct ObservedInput {
  uint64_t width = 0;
  uint64_t weights = 0;  // of those linears, values
  StatSet wanted;
};

/// Inputs that are observed in one sweep, by slot: one, or those of all experts.
std::vector<std::vector<ObservedInput>> observed_inputs(const CalibrationJob& job, size_t block) {
  std::map<Input, ObservedInput> inputs;
  for (size_t i = 0; i < job.graph->blocks[block].linears.size(); ++i) {
    const Linear& linear = job.graph->blocks[block].linears[i];
    const LinearTask& task = job.tasks[block][i];
    if (task.solver == nullptr) continue;
    ObservedInput& input = inputs[linear.input];
    input.width = static_cast<uint64_t>(linear.in);
    input.weights += weights_in(linear);
    input.wanted = input.wanted | task.solver->needs();
    input.wanted.gram = true;  // the report's
    for (const Transform* transform : job.transforms) input.wanted = input.wanted | transform->needs();
  }
  std::map<Slot, std::vector<ObservedInput>> slots;
  for (const auto& [input, observed] : inputs) slots[input.slot].push_back(observed);
  std::vector<std::vector<ObservedInput>> result;
  for (auto& [slot, observed] : slots) result.push_back(std::move(observed));
  return result;
}

/// FP64 sums of so many values, one product, and the finished FP32 matrix, which takes the place of the sums
/// piece by piece (calib/stats/gram.cc).
uint64_t sums_of(uint64_t values, uint64_t width) {
  const uint64_t block = width * kPanelColumns * kDouble, matrix = width * width * kFloat;
  return values * kDouble + width * kPanelColumns * kFloat + std::min(matrix, 2 * block + kReturnedBytes);
}

/// While a slot is observed, and while its sums become statistics.
uint64_t statistics_of(const ObservedInput& input, int64_t length, int64_t samples) {
  const uint64_t w = input.width, tokens = static_cast<uint64_t>(length) * static_cast<uint64_t>(samples);
  const uint64_t buffered = std::min<uint64_t>(tokens, StatsCollector::kChunkTokens);
  const uint64_t streams = input.wanted.cross_gram ? 2 : 1;
  uint64_t bytes = streams * buffered * w * kFloat;  // rows that wait for their chunk
  if (input.wanted.gram) bytes += sums_of(w * (w + kPanelColumns) / 2, w);
  if (input.wanted.cross_gram) bytes += sums_of(w * w, w);
  if (input.wanted.channel_distribution) bytes += 2 * w * kChannelCounts;
  if (input.wanted.distribution) bytes += 2 * kTensorCounts;
  if (input.wanted.token_min_max) bytes += 4 * tokens * kFloat;
  return bytes + 16 * w * kDouble;
}

/// While its linears are folded and solved: the statistics, once more divided by a fold's scales, and copies
/// of the weights.
uint64_t solving(const ObservedInput& input, bool folds) {
  const uint64_t matrix = input.width * input.width * kFloat;
  const uint64_t matrices = input.wanted.cross_gram ? 2 : 1;
  return (folds ? 2 : 1) * matrices * matrix + kSolverCopies * input.weights * kFloat;
}

/// Experts are observed a few at a time (ExpertsPass::groups counts the sums alone, which are two thirds at
/// least), and all tokens' Gram matrix waits beside.
uint64_t experts_statistics(uint64_t largest, uint64_t width) {
  return std::max(largest, static_cast<uint64_t>(kExpertStatisticsBytes) * 3 / 2) + width * width * kFloat;
}

uint64_t largest_linear(const Block& block) {
  uint64_t values = 0;
  for (const Linear& linear : block.linears) values = std::max(values, weights_in(linear));
  return values;
}

}  // namespace

uint64_t gram_bytes(const CalibrationJob& job) {
  uint64_t largest = 0;
  for (size_t b = 0; b < job.graph->blocks.size(); ++b) {
    uint64_t bytes = 0;
    for (const auto& slot : observed_inputs(job, b)) {
      for (const ObservedInput& input : slot) bytes += input.width * input.width * kFloat;
    }
    largest = std::max(largest, bytes);
  }
  return largest;
}

BlockMemory block_memory(const CalibrationJob& job, int64_t samples, int64_t length, bool remade) {
  const bool folds = !job.transforms.empty();
  const bool originals = job.propagate == Propagate::reference || carries_two_streams(job);
  const int64_t tokens = length * std::min(samples, chunk_rows(length, job.device));
  BlockMemory most;
  for (size_t b = 0; b < job.graph->blocks.size(); ++b) {
    const Block& block = job.graph->blocks[b];
    const uint64_t weights = block_bytes(block);
    uint64_t quantised = 0, working = 0, statistics = 0;
    for (const auto& slot : observed_inputs(job, b)) {
      uint64_t observing = 0, solved = 0, largest = 0;
      for (const ObservedInput& input : slot) {
        quantised += input.weights;
        observing += statistics_of(input, length, samples);
        largest = std::max(largest, statistics_of(input, length, samples));
        solved = std::max(solved, solving(input, folds));
      }
      if (slot.size() > 1) observing = std::min(observing, experts_statistics(largest, slot.front().width));
      if (slot.size() > 1) solved += observing;  // the other experts' wait meanwhile
      working = std::max({working, observing + forward_bytes(block, tokens), solved});
      statistics = std::max(statistics, observing);
    }
    working = std::max(working, forward_bytes(block, tokens));
    most.weights = std::max(most.weights, weights);
    most.originals = std::max(
        most.originals, (originals ? weights : 0) + (remade && folds ? largest_linear(block) * kFloat : 0));
    most.codes = std::max(most.codes, quantised + quantised / 8);  // a byte each; scales and zero points
    most.statistics = std::max(most.statistics, statistics);
    most.scratch = std::max(most.scratch, working - std::min(working, statistics));
  }
  return most;
}

}  // namespace lathe
