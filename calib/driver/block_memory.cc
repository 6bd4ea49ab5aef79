#include "calib/driver/block_memory.h"

#include <algorithm>

#include "calib/driver/statistics_memory.h"
#include "lib/activations/block_size.h"

namespace lathe {
namespace {

constexpr uint64_t kFloat = 4;
/// Folds, searches and reports work on a few MiB of a weight's rows at a time (rows_per_chunk), with some
/// copies of them: scaled, rounded, their difference, its products.
constexpr uint64_t kRows = uint64_t{8} << 20, kRowCopies = 8;

/// Where the router sends each token of the job's streams (ExpertRoutes): a token and a weight.
uint64_t routes_of(const CalibrationJob& job, const Block& block, const SamplePlan& plan) {
  if (!block.experts) return 0;
  const auto sent = static_cast<uint64_t>(plan.length * plan.samples * block.experts->per_token);
  return (carries_two_streams(job) ? 2 : 1) * sent * (sizeof(int32_t) + kFloat);
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

/// The larger of both moments.
BlockMemory most_of(const BlockMemory& a, const BlockMemory& b) { return a.total() < b.total() ? b : a; }

uint64_t sums_of(const ObservedInput& input, const SamplePlan& plan, c10::Device device) {
  return collector_bytes(input.wanted, input.width, plan.length * plan.samples, device);
}

uint64_t finished(const ObservedInput& input, const SamplePlan& plan) {
  return statistics_bytes(input.wanted, input.width, plan.length * plan.samples);
}

/// To fold and solve an input's linears.
uint64_t solve_scratch(const ObservedInput& input) {
  return kRowCopies * std::min(kRows, input.weights * kFloat) + input.scratch;
}

/// What the block takes while an input of all tokens is observed, or solved, whichever is more.
BlockMemory at_input(const CalibrationJob& job, const Block& block, const HeldWeights& held,
                     const ObservedInput& input, const SamplePlan& plan) {
  const BlockMemory sweep{.weights = held.observing,
                          .statistics = sums_of(input, plan, job.device) +
                                        collector_scratch_bytes(input.wanted, input.width, job.device),
                          .scratch = forward_bytes(block, tokens_together(plan))};
  const BlockMemory solve{
      .weights = held.solving, .statistics = finished(input, plan), .scratch = solve_scratch(input)};
  return most_of(sweep, solve);
}

/// The same of the experts' inputs in a slot, which are observed and wait to be solved as many together as
/// ExpertsPass::groups() takes, beside the statistics of all tokens.
BlockMemory at_experts(const CalibrationJob& job, const Block& block, uint64_t weights,
                       const std::vector<ObservedInput>& experts, uint64_t all_tokens,
                       const SamplePlan& plan) {
  uint64_t sum = 0, largest = 0, beside = 0, scratch = 0;
  for (const ObservedInput& input : experts) {
    const uint64_t one = sums_of(input, plan, job.device);
    sum += one;
    largest = std::max(largest, one);
    beside = std::max(beside, collector_scratch_bytes(input.wanted, input.width, job.device));
    scratch = std::max(scratch, solve_scratch(input));
  }
  const uint64_t together = all_tokens + std::min(sum, std::max(largest, plan.expert_statistics));
  const BlockMemory sweep{.weights = weights,
                          .statistics = together + beside,
                          .scratch = forward_bytes(block, tokens_together(plan))};
  const BlockMemory solve{.weights = weights, .statistics = together, .scratch = scratch};
  return most_of(sweep, solve);
}

/// One block, but for the next one's weights.
BlockMemory of_block(const CalibrationJob& job, size_t index, const BlockInputs& inputs,
                     const SamplePlan& plan) {
  const Block& block = job.graph->blocks[index];
  BlockMemory most{.weights = block_bytes(block), .scratch = forward_bytes(block, tokens_together(plan))};
  uint64_t quantised = 0, all_tokens = 0;
  for (const auto& [slot, seen] : inputs) {
    const HeldWeights held = held_weights(block, job.tasks[index], slot, plan.remade);
    if (seen.common) {
      most = most_of(most, at_input(job, block, held, *seen.common, plan));
      quantised += seen.common->weights;
      if (slot == Slot::mlp_in) all_tokens = finished(*seen.common, plan);
    }
    for (const ObservedInput& input : seen.experts) quantised += input.weights;
    if (!seen.experts.empty())
      most = most_of(most, at_experts(job, block, held.solving, seen.experts, all_tokens, plan));
  }
  most.statistics += routes_of(job, block, plan);
  const bool originals = job.propagate == Propagate::reference || carries_two_streams(job);
  most.originals = (originals ? block_bytes(block) : 0) +
                   (plan.remade && !job.transforms.empty() ? largest_linear(block) * kFloat : 0);
  most.codes = quantised + quantised / 8;  // a byte each; scales and zero points
  if (job.hand_over_weights) most.codes += quantised * kFloat;
  return most;
}

}  // namespace

BlockMemories::BlockMemories(const CalibrationJob& job) : job_(job) {
  for (size_t b = 0; b < job.graph->blocks.size(); ++b) inputs_.push_back(observed_inputs(job, b));
}

uint64_t BlockMemories::gram_bytes() const {
  uint64_t largest = 0;
  for (const BlockInputs& block : inputs_) {
    uint64_t bytes = 0;
    const auto add = [&](const ObservedInput& input) {
      if (input.weights > 0) bytes += static_cast<uint64_t>(input.width * input.width) * kFloat;
    };
    for (const auto& [slot, seen] : block) {
      if (seen.common) add(*seen.common);
      std::ranges::for_each(seen.experts, add);
    }
    largest = std::max(largest, bytes);
  }
  return largest;
}

BlockMemory BlockMemories::most(const SamplePlan& plan) const {
  BlockMemory most;
  for (size_t b = 0; b < inputs_.size(); ++b) most = most_of(most, of_block(job_, b, inputs_[b], plan));
  most.next = largest_block_bytes(*job_.graph);
  return most;
}

}  // namespace lathe
