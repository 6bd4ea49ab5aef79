#include "calib/driver/block_memory.h"

#include <algorithm>
#include <map>
#include <vector>

#include "calib/driver/experts_pass.h"
#include "calib/stats/gram.h"
#include "calib/stats/stats_collector.h"
#include "lib/activations/block_size.h"
#include "lib/kernels/value_counts.h"

namespace lathe {
namespace {

constexpr uint64_t kFloat = 4, kDouble = 8;
/// Folds, searches and reports work on a few MiB of a weight's rows at a time (rows_per_chunk), with some
/// copies of them: scaled, rounded, their difference, its products.
constexpr uint64_t kRows = uint64_t{8} << 20, kRowCopies = 8;
/// Bytes of counts for the percentiles of a tensor (calib/stats/distribution.h).
constexpr uint64_t kTensorCounts = uint64_t{4} << 20;

/// One input with the linears that read it and are solved.
struct ObservedInput {
  uint64_t width = 0;
  uint64_t weights = 0;  // of those linears, values
  uint64_t scratch = 0;  // of their solvers, the most of them
  StatSet wanted;
};

/// What the solvers of one input's linears take at most; each gets its linears in one problem.
uint64_t solver_scratch(const CalibrationJob& job, size_t block, const Input& input) {
  std::map<const Solver*, int64_t> rows;
  int64_t width = 0;
  for (size_t i = 0; i < job.graph->blocks[block].linears.size(); ++i) {
    const Linear& linear = job.graph->blocks[block].linears[i];
    if (linear.input != input || job.tasks[block][i].solver == nullptr) continue;
    rows[job.tasks[block][i].solver] += linear.out;
    width = linear.in;
  }
  uint64_t bytes = 0;
  for (const auto& [solver, count] : rows) bytes = std::max(bytes, solver->scratch_bytes(count, width));
  return bytes;
}

/// Inputs that are observed in one sweep, by slot: one, or those of all experts.
std::map<Slot, std::vector<ObservedInput>> observed_inputs(const CalibrationJob& job, size_t block) {
  std::map<Input, ObservedInput> inputs;
  for (size_t i = 0; i < job.graph->blocks[block].linears.size(); ++i) {
    const Linear& linear = job.graph->blocks[block].linears[i];
    const LinearTask& task = job.tasks[block][i];
    if (task.solver == nullptr) continue;
    ObservedInput& input = inputs[linear.input];
    input.width = static_cast<uint64_t>(linear.in);
    input.weights += weights_in(linear);
    input.wanted = input.wanted | task.solver->needs();
    if (task.activations) input.wanted = input.wanted | task.activations->needs();
    input.wanted.gram = true;  // the report's
    for (const Transform* transform : job.transforms) input.wanted = input.wanted | transform->needs();
  }
  std::map<Slot, std::vector<ObservedInput>> slots;
  for (auto& [input, observed] : inputs) {
    observed.scratch = solver_scratch(job, block, input);
    slots[input.slot].push_back(observed);
  }
  return slots;
}

/// Sums of so many values, one product, and the finished FP32 matrix, which takes the place of the sums
/// piece by piece (calib/stats/gram.cc).
uint64_t sums_of(uint64_t values, uint64_t width, c10::Device device) {
  const uint64_t panel = width * static_cast<uint64_t>(gram_panel_columns(device));
  const uint64_t matrix = width * width * kFloat;
  return values * static_cast<uint64_t>(gram_sum_bytes(device)) + panel * kFloat +
         std::min(matrix, 2 * panel * kDouble + kGramReturnedBytes);
}

/// While a slot is observed, and while its sums become statistics.
uint64_t statistics_of(const ObservedInput& input, int64_t length, int64_t samples, c10::Device device) {
  const uint64_t w = input.width, tokens = static_cast<uint64_t>(length) * static_cast<uint64_t>(samples);
  uint64_t buffered = std::min<uint64_t>(tokens, StatsCollector::kChunkTokens);
  if (!device.is_cpu() && (input.wanted.gram || input.wanted.cross_gram))
    buffered += std::min<uint64_t>(tokens, StatsCollector::kProductTokens);
  const uint64_t streams = input.wanted.cross_gram ? 2 : 1;
  uint64_t bytes = streams * buffered * w * kFloat;  // rows that wait for their chunk or product
  const auto panel = static_cast<uint64_t>(gram_panel_columns(device));
  const auto channel_bins = static_cast<uint64_t>(kernels::channel_bin_count());
  if (input.wanted.gram) bytes += sums_of(w * (w + panel) / 2, w, device);
  if (input.wanted.cross_gram) bytes += sums_of(w * w, w, device);
  if (input.wanted.channel_distribution) bytes += 2 * w * channel_bins * sizeof(int32_t);
  if (input.wanted.distribution) bytes += 2 * kTensorCounts;
  if (input.wanted.token_min_max) bytes += 4 * tokens * kFloat;
  return bytes + 16 * w * kDouble;
}

/// The statistics that a fold and a solver are given.
uint64_t finished(const ObservedInput& input) {
  return (input.wanted.cross_gram ? 2 : 1) * input.width * input.width * kFloat;
}

/// Experts are observed a few at a time (ExpertsPass::groups counts the sums alone, which are two thirds at
/// least), and all tokens' Gram matrix waits beside.
uint64_t experts_statistics(uint64_t largest, uint64_t width) {
  return std::max(largest, static_cast<uint64_t>(kExpertStatisticsBytes) * 3 / 2) + width * width * kFloat;
}

/// Where the router sends each token (ExpertsPass::Route).
uint64_t routes_of(const Block& block, int64_t length, int64_t samples) {
  if (!block.experts) return 0;
  return static_cast<uint64_t>(length * samples * block.experts->per_token) * sizeof(int32_t);
}

uint64_t largest_linear(const Block& block) {
  uint64_t values = 0;
  for (const Linear& linear : block.linears) values = std::max(values, weights_in(linear));
  return values;
}

uint64_t bytes_reading(const Block& block, Slot slot) {
  uint64_t values = 0;
  for (const Linear* linear : block.reading(slot)) values += weights_in(*linear);
  return values * kFloat;
}

/// The block's weights while a slot is observed and, after its sweep, while its linears are solved
/// (BlockPass::drop_used_weights).
struct HeldWeights {
  uint64_t observing = 0, solving = 0;
};

HeldWeights held_weights(const Block& block, const std::vector<LinearTask>& tasks, Slot slot, bool remade) {
  const uint64_t all = block_bytes(block);
  if (slot == Slot::attention_in || slot == Slot::attention_out) return {all, all};
  const uint64_t mlp =
      all - bytes_reading(block, Slot::attention_in) - bytes_reading(block, Slot::attention_out);
  if (slot == Slot::mlp_in) return {all, mlp};
  bool used_up = !remade && !block.experts;  // gate and up
  for (size_t i = 0; i < tasks.size(); ++i) {
    if (block.linears[i].input.slot == Slot::mlp_in && tasks[i].solver == nullptr) used_up = false;
  }
  return {mlp, used_up ? mlp - bytes_reading(block, Slot::mlp_in) : mlp};
}

int64_t tokens_together(const SamplePlan& plan) {
  return plan.length * std::min(plan.samples, plan.micro_batch);
}

/// What the block takes while one slot is observed, or solved, whichever is more.
BlockMemory at_slot(const CalibrationJob& job, const Block& block, const HeldWeights& held,
                    const std::vector<ObservedInput>& slot, const SamplePlan& plan) {
  const int64_t samples = plan.samples, length = plan.length;
  uint64_t observing = 0, largest = 0, solving = 0, rows = 0, scratch = 0;
  for (const ObservedInput& input : slot) {
    observing += statistics_of(input, length, samples, job.device);
    largest = std::max(largest, statistics_of(input, length, samples, job.device));
    solving = std::max(solving, finished(input));
    rows = std::max(rows, std::min(kRows, input.weights * kFloat));
    scratch = std::max(scratch, input.scratch);
  }
  if (slot.size() > 1) observing = std::min(observing, experts_statistics(largest, slot.front().width));
  if (slot.size() > 1) solving += observing;  // the other experts' wait meanwhile
  observing += routes_of(block, length, samples);
  solving += routes_of(block, length, samples);
  BlockMemory sweep{.weights = held.observing, .statistics = observing};
  sweep.scratch = forward_bytes(block, tokens_together(plan));
  const BlockMemory solve{
      .weights = held.solving, .statistics = solving, .scratch = kRowCopies * rows + scratch};
  return sweep.total() > solve.total() ? sweep : solve;
}

}  // namespace

uint64_t gram_bytes(const CalibrationJob& job) {
  uint64_t largest = 0;
  for (size_t b = 0; b < job.graph->blocks.size(); ++b) {
    uint64_t bytes = 0;
    for (const auto& [slot, inputs] : observed_inputs(job, b)) {
      for (const ObservedInput& input : inputs) bytes += input.width * input.width * kFloat;
    }
    largest = std::max(largest, bytes);
  }
  return largest;
}

BlockMemory block_memory(const CalibrationJob& job, const SamplePlan& plan) {
  const bool remade = plan.remade, folds = !job.transforms.empty();
  const bool originals = job.propagate == Propagate::reference || carries_two_streams(job);
  BlockMemory most;
  for (size_t b = 0; b < job.graph->blocks.size(); ++b) {
    const Block& block = job.graph->blocks[b];
    BlockMemory here{.weights = block_bytes(block), .scratch = forward_bytes(block, tokens_together(plan))};
    uint64_t quantised = 0;
    for (const auto& [slot, inputs] : observed_inputs(job, b)) {
      const HeldWeights held = held_weights(block, job.tasks[b], slot, remade);
      const BlockMemory found = at_slot(job, block, held, inputs, plan);
      if (found.total() > here.total()) here = found;
      for (const ObservedInput& input : inputs) quantised += input.weights;
    }
    here.originals =
        (originals ? block_bytes(block) : 0) + (remade && folds ? largest_linear(block) * kFloat : 0);
    here.codes = quantised + quantised / 8;  // a byte each; scales and zero points
    if (job.hand_over_weights) here.codes += quantised * kFloat;
    if (here.total() > most.total()) most = here;
  }
  most.next = largest_block_bytes(*job.graph);
  return most;
}

}  // namespace lathe
