#include "calib/driver/block_memory.h"

#include <algorithm>

#include "calib/driver/statistics_memory.h"
#include "lib/activations/block_size.h"
#include "lib/model/alike_blocks.h"

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

/// Bytes while a slot is observed and, after its sweep, while its linears are solved.
struct Held {
  uint64_t observing = 0, solving = 0;
};

/// Are gate and up gone when mlp_mid's sweep is done (BlockPass::drop_used_weights)?
bool used_up(const Block& block, const std::vector<LinearTask>& tasks, bool remade) {
  if (remade || block.experts) return false;
  for (size_t i = 0; i < tasks.size(); ++i) {
    if (block.linears[i].input.slot == Slot::mlp_in && tasks[i].solver == nullptr) return false;
  }
  return true;
}

Held held_weights(const Block& block, const std::vector<LinearTask>& tasks, Slot slot,
                  const SamplePlan& plan) {
  const uint64_t all = block_bytes(block);
  if (slot == Slot::attention_in || slot == Slot::attention_out) return {all, all};
  const uint64_t mlp =
      all - bytes_reading(block, Slot::attention_in) - bytes_reading(block, Slot::attention_out);
  if (slot == Slot::mlp_in) return {all, mlp};
  const uint64_t left = used_up(block, tasks, plan.remade) ? mlp - bytes_reading(block, Slot::mlp_in) : mlp;
  return {plan.sparing ? left : mlp, left};
}

/// What replaced weights were, where a stream runs on them, if that is looked at closely: they go with those
/// that took their place.
Held held_originals(const Block& block, const std::vector<LinearTask>& tasks, Slot slot,
                    const SamplePlan& plan) {
  const auto reading = [&](Slot read) { return bytes_reading(block, read); };
  const uint64_t attention = reading(Slot::attention_in);
  if (slot == Slot::attention_in) return {0, attention};
  if (slot == Slot::attention_out) return {attention, attention + reading(slot)};
  if (slot == Slot::mlp_in) return {attention + reading(Slot::attention_out), reading(slot)};
  const uint64_t left = used_up(block, tasks, plan.remade) ? 0 : reading(Slot::mlp_in);
  return {left, left + reading(slot)};
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

/// To fold an input's linears or to rotate them (there and, of one at a time, back), and to measure what
/// became of them.
uint64_t rows_scratch(const ObservedInput& input) {
  return kRowCopies * std::min(kRows, input.weights * kFloat) + 2 * input.rotated * kFloat;
}

/// Values of one sweep's tokens beside the stream's, rotated, in two streams.
uint64_t rotated_tokens(const ObservedInput& input, const SamplePlan& plan) {
  const auto values = static_cast<uint64_t>(tokens_together(plan) * input.width);
  return input.rotated > 0 ? 2 * values * kFloat : 0;
}

/// What is held beside the statistics and the work on them.
struct HeldTensors {
  Held weights, originals, codes;

  BlockMemory observing() const {
    return {.weights = weights.observing, .originals = originals.observing, .codes = codes.observing};
  }
  BlockMemory solving() const {
    return {.weights = weights.solving, .originals = originals.solving, .codes = codes.solving};
  }
};

/// What the block takes while an input of all tokens is observed, or solved, whichever is more.
BlockMemory at_input(const CalibrationJob& job, const Block& block, const HeldTensors& held,
                     const ObservedInput& input, const SamplePlan& plan) {
  BlockMemory sweep = held.observing(), solve = held.solving();
  sweep.statistics =
      sums_of(input, plan, job.device) + collector_scratch_bytes(input.wanted, input.width, job.device);
  sweep.scratch = forward_bytes(block, tokens_together(plan)) + rotated_tokens(input, plan);
  solve.statistics = finished(input, plan);
  solve.scratch = rows_scratch(input) + (plan.sparing ? input.sparing.scratch : input.scratch);
  return most_of(sweep, solve);
}

/// The same of the experts' inputs in a slot, which are observed and wait to be solved as many together as
/// ExpertsPass::groups() takes, beside the statistics of all tokens.
BlockMemory at_experts(const CalibrationJob& job, const Block& block, const HeldTensors& held,
                       const std::vector<ObservedInput>& experts, uint64_t all_tokens,
                       const SamplePlan& plan) {
  uint64_t sum = 0, largest = 0, beside = 0, scratch = 0;
  for (const ObservedInput& input : experts) {
    const uint64_t one = sums_of(input, plan, job.device);
    sum += one;
    largest = std::max(largest, one);
    beside = std::max(beside, collector_scratch_bytes(input.wanted, input.width, job.device));
    scratch = std::max(scratch, rows_scratch(input) + input.scratch);
  }
  const uint64_t together = all_tokens + std::min(sum, std::max(largest, plan.expert_statistics));
  BlockMemory sweep = held.solving(), solve = held.solving();
  sweep.statistics = together + beside;
  sweep.scratch = forward_bytes(block, tokens_together(plan));
  solve.statistics = together;
  solve.scratch = scratch;
  return most_of(sweep, solve);
}

/// A byte each; scales and zero points; weights that are handed over, and formats' own blocks.
uint64_t codes_of(const CalibrationJob& job, uint64_t quantised) {
  const auto blocks = static_cast<uint64_t>(job.format_bits / 8 * static_cast<double>(quantised));
  return quantised + quantised / 8 + (job.hand_over_weights ? quantised * kFloat : 0) + blocks;
}

uint64_t weights_at(const SlotInputs& seen) {
  uint64_t weights = seen.common ? seen.common->weights : 0;
  for (const ObservedInput& input : seen.experts) weights += input.weights;
  return weights;
}

/// Moments beside those of statistics, where what others hold is counted as it comes and goes: values inside
/// the MLP are made; the block's last sweep; its results are packed, each in 32 bits a weight, twice.
BlockMemory at_other_moments(const CalibrationJob& job, size_t index, uint64_t codes_before, uint64_t codes,
                             const SamplePlan& plan) {
  const Block& block = job.graph->part(index);
  const uint64_t forward = forward_bytes(block, tokens_together(plan));
  const uint64_t originals = carries_two_streams(job) || job.propagate == Propagate::reference
                                 ? bytes_reading(block, Slot::mlp_in)
                                 : 0;
  const BlockMemory start{.weights = block_bytes(block), .scratch = forward};
  const BlockMemory making{.weights = held_weights(block, job.tasks[index], Slot::mlp_in, plan).solving,
                           .originals = originals,
                           .codes = codes_before,
                           .scratch = forward};
  const BlockMemory packing{.codes = codes, .scratch = 2 * largest_linear(block) * kFloat};
  return most_of(most_of(start, making), packing);
}

/// One block, but for the next one's weights.
BlockMemory of_block(const CalibrationJob& job, size_t index, const BlockInputs& inputs,
                     const SamplePlan& plan) {
  const Block& block = job.graph->part(index);
  const std::vector<LinearTask>& tasks = job.tasks[index];
  const bool keeps = job.propagate == Propagate::reference || carries_two_streams(job);
  uint64_t quantised = 0;
  for (const auto& [slot, seen] : inputs) quantised += weights_at(seen);
  const uint64_t codes = codes_of(job, quantised), originals = keeps ? block_bytes(block) : 0;
  BlockMemory most{.weights = block_bytes(block),
                   .originals = originals,
                   .codes = codes,
                   .scratch = forward_bytes(block, tokens_together(plan))};
  if (plan.sparing) {
    const uint64_t last = inputs.contains(Slot::mlp_mid) ? weights_at(inputs.at(Slot::mlp_mid)) : 0;
    most = at_other_moments(job, index, codes_of(job, quantised - last), codes, plan);
  }
  uint64_t all_tokens = 0, solved = 0, files = 0;
  for (const auto& [slot, seen] : inputs) {
    HeldTensors held{held_weights(block, tasks, slot, plan), {originals, originals}, {codes, codes}};
    if (plan.sparing) {
      if (keeps) held.originals = held_originals(block, tasks, slot, plan);
      held.codes = {codes_of(job, solved), codes_of(job, solved + weights_at(seen))};
    }
    solved += weights_at(seen);
    if (seen.common) {
      most = most_of(most, at_input(job, block, held, *seen.common, plan));
      if (slot == Slot::mlp_in) all_tokens = finished(*seen.common, plan);
      if (plan.sparing) files = std::max(files, seen.common->sparing.files);
    }
    if (!seen.experts.empty())
      most = most_of(most, at_experts(job, block, held, seen.experts, all_tokens, plan));
  }
  most.statistics += routes_of(job, block, plan);
  most.originals += plan.remade && !job.transforms.empty() ? largest_linear(block) * kFloat : 0;
  most.files = files;
  return most;
}

bool same_statistics(const std::optional<ActivationTask>& a, const std::optional<ActivationTask>& b) {
  if (!a || !b) return a.has_value() == b.has_value();
  return a->needs() == b->needs();
}

/// Is the same held while one and while the other is worked on?
bool alike_in_memory(const CalibrationJob& job, size_t a, size_t b) {
  const auto same_task = [](const LinearTask& x, const LinearTask& y) {
    return x.solver == y.solver && x.scheme == y.scheme && same_statistics(x.activations, y.activations);
  };
  return alike(job.graph->part(a), job.graph->part(b)) &&
         std::ranges::equal(job.tasks[a], job.tasks[b], same_task);
}

}  // namespace

BlockMemories::BlockMemories(const CalibrationJob& job) : job_(job), next_(largest_block_bytes(*job.graph)) {
  for (size_t b = 0; b < job.tasks.size(); ++b) {
    const auto known = [&](const Kind& kind) { return alike_in_memory(job, kind.block, b); };
    if (std::ranges::none_of(kinds_, known)) kinds_.push_back({b, observed_inputs(job, b)});
  }
}

uint64_t BlockMemories::gram_bytes() const {
  uint64_t largest = 0;
  for (const Kind& kind : kinds_) {
    uint64_t bytes = 0;
    const auto add = [&](const ObservedInput& input) {
      if (input.weights > 0) bytes += static_cast<uint64_t>(input.width * input.width) * kFloat;
    };
    for (const auto& [slot, seen] : kind.inputs) {
      if (seen.common) add(*seen.common);
      std::ranges::for_each(seen.experts, add);
    }
    largest = std::max(largest, bytes);
  }
  return largest;
}

BlockMemory BlockMemories::most(const SamplePlan& plan) const {
  BlockMemory most;
  uint64_t files = 0;
  for (const Kind& kind : kinds_) {
    const BlockMemory block = of_block(job_, kind.block, kind.inputs, plan);
    files = std::max(files, block.files);
    most = most_of(most, block);
  }
  most.files = files;
  most.next = next_;
  return most;
}

}  // namespace lathe
