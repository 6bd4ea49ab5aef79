#include "calib/sensitivity/sensitivity.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "calib/driver/counted_tokens.h"
#include "calib/sensitivity/checked_groups.h"
#include "calib/sensitivity/loss_gradients.h"
#include "calib/sensitivity/trial_solver.h"
#include "calib/sensitivity/variant_streams.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/base/process_memory.h"
#include "lib/eval/pieced_head.h"
#include "lib/kernels/dequantize.h"

namespace lathe {
namespace {

constexpr int64_t kTableValues = int64_t{1} << 22;

int64_t count_variants(const SensitivityJob& job) {
  size_t variants = 0;
  for (const TrialGroup& group : job.groups) {
    if (job.measure_kl || is_head(job, group))
      variants += group.trials.size() * variants_of(job, group).size();
  }
  for (const TableGroup& table : job.tables) variants += table.roundings.size();
  return static_cast<int64_t>(variants);
}

void check_job(const SensitivityJob& job) {
  LATHE_ASSERT(job.held_out.dim() == 2 && job.held_out.scalar_type() == at::kLong && job.held_out.numel() > 0,
               "held-out ids must be Long [rows, length]");
  LATHE_ASSERT(job.checked.empty() || !job.measure_kl, "KL of all groups leaves none to check");
  std::set<std::pair<size_t, size_t>> seen;
  for (const TrialGroup& group : job.groups) {
    LATHE_ASSERT(!group.trials.empty() && !group.linears.empty(), "a group without linears or trials");
    LATHE_ASSERT(job.calibration.transforms.empty() || group.trials.size() == 1,
                 "transforms choose for one trial, not for several");
    for (const size_t linear : group.linears)
      LATHE_ASSERT(seen.emplace(group.block, linear).second, "a linear of two groups");
  }
}

/// How often a token reaches the linear: an expert's, by the router's counts.
double share_of(const Linear& linear, const BlockOutcome& outcome, int64_t tokens) {
  if (!linear.input.expert) return 1;
  const auto expert = static_cast<size_t>(*linear.input.expert);
  return static_cast<double>(outcome.expert_tokens.at(expert)) / static_cast<double>(tokens);
}

/// All but KL, of one group under its trial number k.
GroupLoss errors_of(const SensitivityJob& job, const TrialGroup& group, size_t k, const BlockOutcome& outcome,
                    const std::map<std::string, std::vector<TrialOutcome>>& made) {
  const Block& block = part_of(job, group);
  const int64_t tokens = number_of_counted_tokens(job.calibration);
  const auto ratio = [](double error, double whole) { return whole > 0 ? error / whole : 0; };
  DistortionSums::Totals sum;
  double weights = 0;
  GroupLoss loss;
  for (const size_t i : group.linears) {
    const Linear& linear = block.linears[i];
    const DistortionSums::Totals one = made.at(linear.name)[k].sums.totals();
    const double share = share_of(linear, outcome, tokens);
    sum.weight_error += one.weight_error;
    sum.weight += one.weight;
    sum.output_error += share * one.output_error;
    sum.output += share * one.output;
    const double count = static_cast<double>(linear.out) * static_cast<double>(linear.in);
    weights += count;
    loss.linears.push_back({one.weight_error / count, one.output_error, ratio(one.output_error, one.output)});
  }
  loss.weight_mse = sum.weight_error / weights;
  loss.weight_relative_mse = ratio(sum.weight_error, sum.weight);
  loss.output_error = sum.output_error;
  loss.output_relative_error = ratio(sum.output_error, sum.output);
  return loss;
}

/// A table's weight errors, some rows at a time.
GroupLoss errors_of(const SensitivityJob& job, const TableGroup& table, size_t k) {
  const std::vector<int64_t> shape = job.calibration.graph->expected_tensors().at(table.tensor);
  const int64_t step = std::max<int64_t>(1, kTableValues / shape[1]);
  double error = 0, whole = 0;
  for (int64_t first = 0; first < shape[0]; first += step) {
    throw_if_cancelled();
    const at::Tensor rows = at::arange(first, std::min(first + step, shape[0]));
    const at::Tensor values = job.calibration.weights->load_rows(table.tensor, rows).contiguous();
    error += (table.roundings[k](values) - values).square().sum(at::kDouble).item<double>();
    whole += values.square().sum(at::kDouble).item<double>();
  }
  return {error / static_cast<double>(shape[0] * shape[1]), whole > 0 ? error / whole : 0, {}, {}, {}, {}};
}

using Made = std::map<std::string, std::vector<TrialOutcome>>;

/// What transforms made of a block, before anything is rounded: the same function. Folds into rows that were
/// solved before are in what the trials made, too.
void take_folds(const Block& block, const BlockOutcome& outcome, BlockWeights& weights, Made& made) {
  for (const LinearOutcome& linear : outcome.linears) {
    const at::Tensor old = weights.take_weight(*linear.linear);
    weights.set_weight(*linear.linear, linear.given.value().weight.to(old.device()));
    made.at(linear.linear->name).front().quantized = linear.quantized;
  }
  const auto changed = [&](const std::string& name, const at::Tensor& old, const auto& set) {
    const auto found = outcome.changed.find(name);
    if (found != outcome.changed.end()) set(found->second.to(old.device()));
  };
  for (const Linear& linear : block.linears) {
    changed(linear.name + ".weight", weights.weight(linear),
            [&](const at::Tensor& values) { weights.set_weight(linear, values); });
    if (linear.bias)
      changed(linear.name + ".bias", weights.bias(linear),
              [&](const at::Tensor& values) { weights.set_bias(linear, values); });
  }
  for (const Norm* norm : block.norms())
    changed(norm->name + ".weight", weights.norm(*norm),
            [&](const at::Tensor& values) { weights.set_norm(*norm, values); });
}

/// Of a finished block's groups, before its variants leave.
void estimate_block(const SensitivityJob& job, const Block& block, const BlockWeights& weights,
                    const Made& made, VariantStreams& streams, LossGradients& gradients,
                    SensitivityResult& result) {
  std::vector<const TrialGroup*> groups;
  std::vector<size_t> places;
  std::vector<std::vector<EstimateSums>> sums;
  for (size_t g = 0; g < job.groups.size(); ++g) {
    if (job.groups[g].block != static_cast<size_t>(block.index)) continue;
    groups.push_back(&job.groups[g]);
    places.push_back(g);
    sums.emplace_back(job.groups[g].trials.size(),
                      EstimateSums{0, std::vector<double>(job.groups[g].linears.size(), 0.0)});
  }
  if (groups.empty()) return;
  for (int64_t row = 0; row < job.held_out.size(0); ++row)
    gradients.add(row, block, weights, streams.model_states(row), groups, made, sums);
  for (size_t i = 0; i < groups.size(); ++i) {
    for (size_t k = 0; k < sums[i].size(); ++k) {
      GroupLoss& loss = result.groups[places[i]][k];
      const auto tokens = static_cast<double>(streams.tokens());
      loss.fisher = sums[i][k].group / tokens;
      for (size_t j = 0; j < loss.linears.size(); ++j)
        loss.linears[j].fisher = sums[i][k].linears[j] / tokens;
    }
  }
}

/// The variants of a finished block leave the model's stream in it; the others pass.
void run_block(const SensitivityJob& job, const Block& block, const BlockWeights& weights, const Made& made,
               VariantStreams& streams) {
  const CalibrationJob& calibration = job.calibration;
  for (const TrialGroup& group : job.groups) {
    if (!job.measure_kl || group.block != static_cast<size_t>(block.index)) continue;
    for (size_t k = 0; k < group.trials.size(); ++k) {
      for (const std::vector<size_t>& rounded : variants_of(job, group)) {
        BlockWeights changed = weights;
        for (const size_t i : rounded) {
          const QuantizedTensor& quantized = made.at(block.linears[i].name)[k].quantized;
          changed.set_weight(block.linears[i], kernels::dequantize(quantized).to(calibration.device));
          if (quantized.input) changed.set_input_quantizer(block.linears[i], *quantized.input);
        }
        streams.add(block, changed);
      }
    }
  }
  streams.pass(block, weights);
}

/// The variants of the head, which leave the model's stream after its last block.
void run_head(const SensitivityJob& job, const Made& made, VariantStreams& streams) {
  for (const TrialGroup& group : job.groups) {
    if (!is_head(job, group)) continue;
    const std::string& name = job.calibration.graph->lm_head().name;
    for (const TrialOutcome& trial : made.at(name)) streams.add_head(trial.quantized);
  }
}

/// Where the KL of a group's variants goes, in the order in which run_block() adds them.
void add_places(const SensitivityJob& job, const TrialGroup& group, GroupLoss& loss,
                std::vector<std::optional<double>*>& places) {
  places.push_back(&loss.kl);
  if (variants_of(job, group).size() == 1) return;
  for (LinearLoss& linear : loss.linears) places.push_back(&linear.kl);
}

/// What is the group is the linear, too, where it has one alone.
void fill_single_linears(const SensitivityJob& job, SensitivityResult& result) {
  if (!job.linear_kl) return;
  for (std::vector<GroupLoss>& losses : result.groups)
    for (GroupLoss& loss : losses)
      if (loss.linears.size() == 1) loss.linears.front().kl = loss.kl;
}

}  // namespace

const Block& part_of(const SensitivityJob& job, const TrialGroup& group) {
  return job.calibration.graph->part(group.block);
}

bool is_head(const SensitivityJob& job, const TrialGroup& group) {
  return group.block == job.calibration.graph->blocks.size();
}

CalibrationJob trial_job(const SensitivityJob& job, const Solver& solver) {
  CalibrationJob trials = job.calibration;
  trials.propagate = Propagate::reference;
  trials.kv_cache.reset();
  trials.hand_over_weights = !trials.transforms.empty();  // folds are read off them
  trials.describe_inputs = false;
  trials.tasks.clear();
  for (const Block& block : trials.graph->blocks) trials.tasks.emplace_back(block.linears.size());
  if (std::ranges::any_of(job.groups, [&](const TrialGroup& group) { return is_head(job, group); }))
    trials.tasks.emplace_back(1);
  for (const TrialGroup& group : job.groups) {
    const Trial& first = job.trials[group.trials.front()];
    LinearTask task{.solver = &solver, .scheme = first.scheme};
    if (!trials.transforms.empty()) task.activations = first.activations;  // which folds are chosen for, too
    for (const size_t linear : group.linears) trials.tasks[group.block][linear] = task;
  }
  return trials;
}

std::vector<std::vector<size_t>> variants_of(const SensitivityJob& job, const TrialGroup& group) {
  std::vector<std::vector<size_t>> variants = {group.linears};
  if (!job.linear_kl || group.linears.size() == 1) return variants;
  for (const size_t linear : group.linears) variants.push_back({linear});
  return variants;
}

int64_t variant_states(const SensitivityJob& job) { return job.held_out.size(0) * (count_variants(job) + 1); }

SensitivityResult measure_sensitivity(
    const SensitivityJob& job, const std::function<void(int64_t, int64_t, std::string_view)>& progress) {
  const c10::NoGradGuard no_grad;
  check_job(job);
  const CalibrationJob& calibration = job.calibration;
  const auto blocks = static_cast<int64_t>(calibration.graph->blocks.size());
  const auto tell = [&](int64_t done, std::string_view stage) {
    if (progress) progress(done, blocks + 1, stage);
  };
  SensitivityResult result;
  std::optional<LossGradients> gradients;
  if (job.estimate) {
    tell(0, "gradients");
    gradients.emplace(job);
  }
  VariantStreams streams(job, count_variants(job));
  const SensitivityJob checking = checking_job(job);
  std::optional<VariantStreams> checks;
  if (!job.checked.empty()) checks.emplace(checking, count_variants(checking));
  std::vector<std::optional<double>*> variants, checked;  // as the streams
  const std::string head = head_weight(*calibration.graph);
  const bool tied = head == calibration.graph->embedding + ".weight";
  // All rows are there before anyone points at what stands in them.
  for (const TableGroup& table : job.tables) result.tables.emplace_back(table.roundings.size());
  for (const TrialGroup& group : job.groups) result.groups.emplace_back(group.trials.size());
  for (size_t t = 0; t < job.tables.size(); ++t) {
    const TableGroup& table = job.tables[t];
    const bool embeds = table.tensor == calibration.graph->embedding + ".weight";
    if (!embeds) continue;
    for (size_t k = 0; k < table.roundings.size(); ++k) {
      streams.add_embedding(table, k, tied);
      result.tables[t][k] = errors_of(job, table, k);
      variants.push_back(&result.tables[t][k].kl);
    }
  }

  TrialSolver solver(*calibration.graph, job.trials, job.groups);
  const auto block_done = [&](BlockOutcome&& outcome) {
    Made made = solver.take();
    for (size_t g = 0; g < job.groups.size(); ++g) {
      const TrialGroup& group = job.groups[g];
      if (group.block != outcome.index) continue;
      for (size_t k = 0; k < group.trials.size(); ++k) {
        GroupLoss& loss = result.groups[g][k] = errors_of(job, group, k, outcome, made);
        if (job.measure_kl || is_head(job, group)) add_places(job, group, loss, variants);
        if (std::ranges::binary_search(job.checked, g)) add_places(job, group, loss, checked);
      }
    }
    if (outcome.index == calibration.graph->blocks.size()) return run_head(job, made, streams);
    tell(static_cast<int64_t>(outcome.index), fmt::format("block {}: variants", outcome.index));
    const Block& block = calibration.graph->blocks[outcome.index];
    BlockWeights weights(block, *calibration.weights, calibration.device, calibration.compute);
    if (!calibration.transforms.empty()) take_folds(block, outcome, weights, made);
    if (gradients) estimate_block(job, block, weights, made, streams, *gradients, result);
    run_block(job, block, weights, made, streams);
    if (checks) run_block(checking, block, weights, made, *checks);
    release_free_memory();
  };
  calibrate(trial_job(job, solver),
            {.block_done = block_done, .progress = [&](int64_t done, std::string_view stage) {
               if (done <= blocks) tell(done, stage);  // the variants' logits are still to come
             }});

  for (size_t t = 0; t < job.tables.size(); ++t) {
    const TableGroup& table = job.tables[t];
    if (table.tensor == calibration.graph->embedding + ".weight") continue;
    for (size_t k = 0; k < table.roundings.size(); ++k) {
      streams.add_head_table(table, k);
      result.tables[t][k] = errors_of(job, table, k);
      variants.push_back(&result.tables[t][k].kl);
    }
  }
  tell(blocks, "head");
  const auto measured = [](VariantStreams& run, const std::vector<std::optional<double>*>& places) {
    const std::vector<double> kl = run.divergences();
    for (size_t v = 0; v < kl.size(); ++v) *places[v] = kl[v];
    return run.tokens();
  };
  result.tokens = measured(streams, variants);
  if (checks) result.checked_tokens = measured(*checks, checked);
  fill_single_linears(job, result);
  tell(blocks + 1, "done");
  return result;
}

}  // namespace lathe
