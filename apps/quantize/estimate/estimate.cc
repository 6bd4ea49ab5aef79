#include "apps/quantize/estimate/estimate.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "calib/driver/counted_tokens.h"
#include "calib/driver/run_work.h"
#include "calib/sensitivity/sensitivity_work.h"
#include "calib/sensitivity/trial_solver.h"
#include "lib/eval/eval_work.h"
#include "lib/tensor/device.h"

namespace lathe {
namespace {

/// What happens to a weight beside solving it, in passes that take as long (Rates::passes), as measured on
/// lathe-tiny and SmolLM2-135M: its codes are packed, hashed and written; in the end they are read twice,
/// compared, and their distance from the model is measured; and each evaluated model's weights are read.
constexpr double kPackPasses = 2, kVerifyPasses = 6, kReadPasses = 4;

double count(const Linear& linear) {
  return static_cast<double>(linear.out) * static_cast<double>(linear.in);
}

double quantised_weights(const Plan& plan) {
  double weights = 0;
  for (const PlannedLinear& linear : plan.quantized())
    weights += static_cast<double>(linear.out) * static_cast<double>(linear.in);
  return weights;
}

double block_weights(const ModelGraph& graph) {
  double weights = 0;
  for (const Block& block : graph.blocks)
    for (const Linear& linear : block.linears) weights += count(linear);
  return weights;
}

/// Rules with their solvers and schemes, each with the widest input.
struct UsedRule {
  Scheme scheme;
  std::optional<ActivationScheme> activations;
  int64_t width = 0;
};

std::map<size_t, UsedRule> used_rules(const Plan& plan) {
  std::map<size_t, UsedRule> used;
  for (const LinearPlan* linear : plan.linears()) {
    if (!linear->quantized) continue;
    UsedRule& rule = used[linear->rule];
    rule.scheme = linear->scheme;
    rule.activations = linear->activations;
    rule.width = std::max(rule.width, linear->linear->in);
  }
  return used;
}

/// Statistics beside Gram matrices that any of the job's inputs needs.
StatSet all_needs(const CalibrationJob& job) {
  StatSet wanted;
  for (const auto& block : job.tasks) {
    for (const LinearTask& task : block) {
      if (task.solver == nullptr) continue;
      wanted = wanted | task.solver->needs();
      if (task.activations) wanted = wanted | task.activations->needs();
    }
  }
  return with_report(job, wanted).wanted;
}

std::string describe_place(c10::Device device) {
  const int threads = at::get_num_threads();
  return device.is_cpu() ? fmt::format("cpu, {} thread{}", threads, threads == 1 ? "" : "s")
                         : describe_device(device);
}

double forward_seconds(const ForwardWork& work, const Rates& rates) {
  return work.products / rates.products + work.attention / rates.attention + work.values / rates.values;
}

class Estimator {
 public:
  Estimator(const EstimateRequest& request, int64_t length, const StatSet& wanted)
      : request_(request), rates_(request.probes.rates(request.graph, length, wanted)) {
    estimate_.device = describe_place(request.probes.place().device);
  }

  void add_calibration(const RunWork& work) {
    add("forward", work.forward.flops(), forward_seconds(work.forward, rates_));
    add("statistics", work.gram, work.gram / rates_.gram + work.observed / rates_.observed);
    const std::map<size_t, UsedRule> used = used_rules(request_.plan);
    for (size_t t = 0; t < work.transforms.size() && !used.empty(); ++t) {
      const UsedRule& rule = used.begin()->second;
      const AlgorithmRate rate =
          measure_transform(*request_.algorithms.transforms[t], rule.scheme, rule.activations, rule.width,
                            rates_, request_.probes.place());
      add("transform " + request_.recipe.transforms[t].name, work.transforms[t], rate);
    }
    add_solvers([&](size_t rule) { return work.solvers.at(request_.algorithms.solvers[rule].get()); });
    add("errors", work.errors, {.share = 1, .rounding = 1 / rates_.passes});
  }

  void add_cache_fit(const CalibrationJob& job, const RunWork& work) {
    if (work.cache_tokens == 0) return;
    const double layer = measure_cache_fit(*job.kv_cache, job.graph->config, job.ids.size(1),
                                           work.cache_tokens, request_.probes.place());
    add("fit KV cache", work.cache, static_cast<double>(job.graph->blocks.size()) * layer);
    if (work.cache_head == 0) return;
    add("gradients for the KV cache", work.cache_gradients.flops() + work.cache_head,
        forward_seconds(work.cache_gradients, rates_) + work.cache_head / rates_.products +
            work.cache_probabilities / rates_.probabilities);
  }

  template <class WorkOf>
  void add_solvers(const WorkOf& work_of) {
    for (const auto& [rule, used] : used_rules(request_.plan)) {
      const AlgorithmRate rate =
          request_.probes.solver(*request_.algorithms.solvers[rule], used.scheme, used.width);
      add("solver " + request_.recipe.rules[rule].solver.name, work_of(rule), rate);
    }
  }

  void add_rest() {
    add_packing();
    if (request_.evaluation.rows == 0) return;
    const EvalWork work =
        eval_work(request_.graph, &request_.graph, request_.evaluation.rows, request_.evaluation.ctx);
    // Formats that round by themselves are scored apart; all others hold the same values.
    const auto gguf =
        std::ranges::count_if(request_.plan.outputs, [](const auto& o) { return o.gguf.has_value(); });
    const auto others = static_cast<int64_t>(request_.plan.outputs.size()) - gguf;
    const auto times = static_cast<double>(gguf + (others > 0 ? 1 : 0));
    add("evaluate", times * work.flops(),
        times * (forward_seconds(work.forward, rates_) + work.head / rates_.products +
                 work.probabilities / rates_.probabilities +
                 2 * kReadPasses * block_weights(request_.graph) / rates_.passes));
  }

  Estimate take() { return std::move(estimate_); }

 private:
  void add(const std::string& name, double flops, double seconds) {
    const auto found = std::ranges::find(estimate_.stages, name, &EstimatedStage::name);
    if (found == estimate_.stages.end()) {
      estimate_.stages.push_back({name, flops, seconds});
    } else {
      found->flops += flops;
      found->seconds += seconds;
    }
  }
  void add(const std::string& name, const Work& work, const AlgorithmRate& rate) {
    add(name, work.flops(), rate.seconds(work, rates_));
  }

  /// A rounding is counted for each weight that an output rounds by itself; its blocks' search is in the
  /// time.
  void add_packing() {
    const double weights = quantised_weights(request_.plan);
    for (const OutputPlan& output : request_.plan.outputs) {
      double flops = 0, seconds = kPackPasses * weights / rates_.passes;
      if (output.gguf) std::tie(flops, seconds) = block_rounding(*output.gguf);
      add("pack", flops, seconds);
    }
    const auto outputs = static_cast<double>(request_.plan.outputs.size());
    add("verify", kRoundingFlops * outputs * weights, kVerifyPasses * outputs * weights / rates_.passes);
  }

  std::pair<double, double> block_rounding(const GgufOutput& output) const {
    std::map<GgmlType, double> weights;
    for (const GgufOutputTensor& tensor : output.tensors)
      if (!tensor.exact && tensor.rule.is_matrix())
        weights[tensor.type] += static_cast<double>(tensor.rule.shape[0] * tensor.rule.shape[1]);
    double flops = 0, seconds = 0;
    for (const auto& [type, amount] : weights) {
      seconds += amount / measure_blocks(type, !request_.recipe.calibration.none);
      flops += kRoundingFlops * amount;
    }
    return {flops, seconds};
  }

  const EstimateRequest& request_;
  Rates rates_;
  Estimate estimate_;
};

std::string flops_text(double flops) {
  constexpr const char* kUnits[] = {"MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"};
  if (flops == 0) return "none";
  size_t unit = 0;
  for (flops /= 1e6; flops >= 999.5 && unit + 1 < std::size(kUnits); flops /= 1000) ++unit;
  return fmt::format("{:.3g} {}", flops, kUnits[unit]);
}

std::string time_text(double seconds) {
  if (seconds < 10) return fmt::format("{:.1f} s", seconds);
  if (seconds < 120) return fmt::format("{:.0f} s", seconds);
  if (seconds < 7200) return fmt::format("{:.0f} min", seconds / 60);
  return fmt::format("{:.1f} h", seconds / 3600);
}

}  // namespace

double Estimate::flops() const {
  double sum = 0;
  for (const EstimatedStage& stage : stages) sum += stage.flops;
  return sum;
}

double Estimate::seconds() const {
  double sum = 0;
  for (const EstimatedStage& stage : stages) sum += stage.seconds;
  return sum;
}

EvaluatedRows rows_of(const at::Tensor& ids) {
  return ids.defined() ? EvaluatedRows{ids.size(0), ids.size(1)} : EvaluatedRows{};
}

Estimate estimate_run(const EstimateRequest& request, const CalibrationJob& job) {
  Estimator estimator(request, job.ids.size(1), all_needs(job));
  const RunWork work = run_work(job, job.ids.size(0), job.ids.size(1), number_of_counted_tokens(job));
  estimator.add_calibration(work);
  estimator.add_cache_fit(job, work);
  estimator.add_rest();
  return estimator.take();
}

Estimate estimate_weights(const EstimateRequest& request) {
  Estimator estimator(request, request.evaluation.ctx, {});
  std::map<size_t, Work> work;
  for (const LinearPlan* linear : request.plan.linears()) {
    if (linear->quantized)
      work[linear->rule] += request.algorithms.solvers[linear->rule]->work(
          {linear->linear->out}, linear->linear->in, linear->scheme);
  }
  estimator.add_solvers([&](size_t rule) { return work.at(rule); });
  estimator.add_rest();
  return estimator.take();
}

Estimate estimate_sensitivity(const SensitivityJob& job, RateProbes& probes) {
  const ModelGraph& graph = *job.calibration.graph;
  const SensitivityWork work = sensitivity_work(job);
  const StatSet wanted = TrialSolver(graph, job.trials, job.groups).needs();
  const Rates rates = probes.rates(graph, job.held_out.size(1), wanted);
  Estimate estimate{.stages = {}, .device = describe_place(probes.place().device)};
  const auto add = [&](const std::string& name, double flops, double seconds) {
    estimate.stages.push_back({name, flops, seconds});
  };
  add("forward", work.pass.forward.flops(), forward_seconds(work.pass.forward, rates));
  add("statistics", work.pass.gram, work.pass.gram / rates.gram + work.pass.observed / rates.observed);
  std::vector<int64_t> widths(job.trials.size(), 1);
  for (const TrialGroup& group : job.groups) {
    for (const size_t i : group.linears) {
      const int64_t width = graph.part(group.block).linears[i].in;
      for (const size_t t : group.trials) widths[t] = std::max(widths[t], width);
    }
  }
  for (size_t t = 0; t < job.trials.size(); ++t) {
    const Trial& trial = job.trials[t];
    const AlgorithmRate rate = probes.solver(*trial.solver, trial.scheme, widths[t]);
    add("trial " + trial.name, work.trials[t].flops(), rate.seconds(work.trials[t], rates));
  }
  const AlgorithmRate passes{.share = 1, .rounding = 1 / rates.passes};
  add("errors", work.errors.flops(), passes.seconds(work.errors, rates));
  add("held-out text", work.held_out.flops() + work.head,
      forward_seconds(work.held_out, rates) + work.head / rates.products +
          work.probabilities / rates.probabilities);
  return estimate;
}

Estimate one_after_other(const Estimate& measuring, const Estimate& run) {
  Estimate both = measuring;
  for (EstimatedStage& stage : both.stages) stage.name = "sensitivity: " + stage.name;
  both.stages.insert(both.stages.end(), run.stages.begin(), run.stages.end());
  return both;
}

std::string describe_estimate(const Estimate& estimate) {
  std::string text =
      fmt::format("work       {}, about {} here ({}, as fast as it is now)\n", flops_text(estimate.flops()),
                  time_text(estimate.seconds()), estimate.device);
  for (const EstimatedStage& stage : estimate.stages)
    text += fmt::format("           {:>11} {:>8}  {}\n", flops_text(stage.flops), time_text(stage.seconds),
                        stage.name);
  return text;
}

nlohmann::json estimate_json(const Estimate& estimate) {
  nlohmann::json stages = nlohmann::json::array();
  for (const EstimatedStage& stage : estimate.stages)
    stages.push_back({{"name", stage.name}, {"flops", stage.flops}, {"seconds", stage.seconds}});
  return {{"flops", estimate.flops()},
          {"seconds", estimate.seconds()},
          {"device", estimate.device},
          {"stages", std::move(stages)}};
}

}  // namespace lathe
