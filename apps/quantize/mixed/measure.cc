#include "apps/quantize/mixed/measure.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <set>

#include "apps/quantize/dataset.h"
#include "apps/quantize/job.h"
#include "apps/quantize/memory.h"
#include "apps/quantize/mixed/ggml_rounding.h"
#include "calib/sensitivity/checked_groups.h"
#include "calib/sensitivity/trial_solver.h"
#include "formats/gguf/imatrix.h"
#include "lib/activations/block_size.h"
#include "lib/base/error.h"
#include "lib/base/spread.h"
#include "lib/eval/drawn_labels.h"
#include "lib/eval/eval_memory.h"
#include "lib/model/compute_dtype.h"
#include "lib/tensor/device.h"
#include "recipes/algorithm_checks.h"

namespace lathe {
namespace {

/// The samples of one set in two.
struct Split {
  CalibrationSet calibration, held_out;
};

void take(const CalibrationSet& from, const std::vector<int64_t>& rows, CalibrationSet& to) {
  const at::Tensor which = at::tensor(rows, at::kLong);
  to.ids = from.ids.index_select(0, which);
  if (from.token_weights.defined()) to.token_weights = from.token_weights.index_select(0, which);
  if (from.lengths.empty()) return;
  for (const int64_t row : rows) to.lengths.push_back(from.lengths[static_cast<size_t>(row)]);
}

/// Every so many-th sample is held out, so that each source of a mixture gives its share.
Split split(const CalibrationSet& set, int64_t held_out, const Recipe& recipe) {
  const int64_t samples = set.ids.size(0);
  if (held_out >= samples) {
    user_error(
        "{}: sensitivity.held_out: {} of {} samples would leave none to calibrate with; give "
        "calibration.samples more, or hold fewer out",
        recipe.file, held_out, samples);
  }
  std::vector<int64_t> kept, out;
  for (int64_t row = 0; row < samples; ++row) {
    const auto next = static_cast<int64_t>(out.size());
    const bool middle = next < held_out && row == middle_of(next, held_out, samples);
    (middle ? out : kept).push_back(row);
  }
  Split parts;
  take(set, kept, parts.calibration);
  take(set, out, parts.held_out);
  return parts;
}

/// The recipe's transforms, and one solver for each candidate.
Algorithms algorithms_of(const Recipe& recipe, const Importances& importances) {
  Recipe rules = recipe;
  rules.rules.clear();
  for (const Candidate& candidate : recipe.candidates)
    if (!candidate.block) rules.rules.push_back(candidate.rule);
  Algorithms made = make_algorithms(rules);
  std::vector<std::unique_ptr<Solver>> solvers;
  size_t next = 0;
  for (const Candidate& candidate : recipe.candidates) {
    solvers.push_back(candidate.block ? std::make_unique<GgmlRounding>(*candidate.block, importances)
                                      : std::move(made.solvers[next++]));
  }
  made.solvers = std::move(solvers);
  return made;
}

/// Of the recipe's importance matrix, in place of what is measured; empty without one. UserError where it
/// lacks a linear of a group.
Importances importances_of(const Recipe& recipe, const ModelFolder& model, const ChoicePlan& plan) {
  if (recipe.output.imatrix.empty()) return {};
  const ImportanceMatrix given = read_imatrix(recipe.output.imatrix);
  std::set<std::string> rounded;
  for (const ChoiceGroup& group : plan.groups)
    if (!group.linears.empty() && recipe.candidates[group.candidates.front()].block)
      rounded.insert(group.name);
  Importances made;
  for (const GgufTensorRule& rule : gguf_tensors(model.graph))
    if (rounded.contains(rule.gguf)) made[rule.linear] = given.of(rule, recipe.output.imatrix).contiguous();
  return made;
}

void add_groups(const Recipe& recipe, const ChoicePlan& plan, SensitivityJob& job) {
  for (const ChoiceGroup& group : plan.groups) {
    if (group.block >= 0) {
      job.groups.push_back({static_cast<size_t>(group.block), group.linears, group.candidates});
      continue;
    }
    TableGroup& table = job.tables.emplace_back();
    table.tensor = group.table;
    for (const size_t c : group.candidates) {
      const GgmlType type = *recipe.candidates[c].block;
      table.roundings.emplace_back(
          [name = group.table, type](const at::Tensor& rows) { return ggml_rounded(name, rows, type); });
    }
  }
}

/// What stands beside the driver while it measures. KL that is measured at any rate may do without the
/// estimate, and the estimate without the KL that checks it.
struct Beside {
  bool both, in_memory;
};
std::vector<Beside> ways_to_measure(const SensitivityJob& job) {
  std::vector<Beside> ways = {{true, true}, {true, false}};
  if (job.measure_kl || !job.checked.empty()) ways.insert(ways.end(), {{false, true}, {false, false}});
  return ways;
}

/// Hidden states (or gradients) of so many held-out samples.
HiddenStorage place_states(const SensitivityJob& job, int64_t samples, const std::filesystem::path& work,
                           const MemoryLimits& limits, bool in_memory, MemoryBytes& taken) {
  return place_beside(samples, job.held_out.size(1), job.calibration.graph->config.hidden_size,
                      job.calibration.device, work, limits, in_memory, taken);
}

/// RAM that the logits of one row's variants take: as they are made, and their sums. A table's roundings have
/// heads of their own. Before that, labels are drawn of the row's own logits.
uint64_t scoring_bytes(const SensitivityJob& job) {
  const c10::Device device = job.calibration.device;
  const int64_t length = job.held_out.size(1);
  const auto positions = static_cast<uint64_t>(variant_states(job) / job.held_out.size(0) * length);
  std::vector<EvalInput> heads(1, {job.calibration.graph, job.calibration.weights});
  const MemoryBytes drawing =
      scoring_memory(heads, {static_cast<uint64_t>(length), length, kDrawnLabelLogits}, device);
  uint64_t codes = 0;  // of the head's trials
  for (const TableGroup& table : job.tables) heads.insert(heads.end(), table.roundings.size(), heads[0]);
  for (const TrialGroup& group : job.groups) {
    if (!is_head(job, group)) continue;
    heads.insert(heads.end(), group.trials.size(), heads[0]);
    codes += 2 * group.trials.size() * weights_in(job.calibration.graph->lm_head());  // as TrialSolver counts
  }
  const MemoryBytes comparing = scoring_memory(heads, {positions, length, kComparedLogits}, device);
  return std::max(job.estimate ? drawing.ram : 0, codes + comparing.ram);
}

/// Places what is measured beside the driver, and what the driver itself keeps: the first way that keeps the
/// limits. MemoryRefused by the leanest where none does.
MemoryPlan place_measurement(const MemoryLimits& limits, const std::filesystem::path& work,
                             SensitivityJob& job) {
  const TrialSolver planned(*job.calibration.graph, job.trials, job.groups);
  const std::vector<Beside> ways = ways_to_measure(job);
  for (const Beside& way : ways) {
    job.estimate = way.both || !job.measure_kl;
    if (!way.both) job.checked.clear();
    const SensitivityJob checking = checking_job(job);
    MemoryBytes beside;
    job.variants = place_states(job, variant_states(job), work, limits, way.in_memory, beside);
    if (!job.checked.empty())
      job.checks = place_states(job, variant_states(checking), work, limits, way.in_memory, beside);
    if (job.estimate)
      job.gradients = place_states(job, gradient_states(job), work, limits, way.in_memory, beside);
    // Logits are made before the driver begins and when it is done; no block's gradients are computed then.
    const uint64_t scoring = beside.ram + std::max(scoring_bytes(job), scoring_bytes(checking));
    (job.calibration.device.is_cuda() ? beside.vram : beside.ram) += gradient_work_bytes(job);
    try {
      MemoryPlan memory = plan_run_memory(limits, trial_job(job, planned), work, 0, scoring, beside);
      job.calibration.storage = memory.storage;
      return memory;
    } catch (const MemoryRefused&) {
      if (&way == &ways.back()) throw;
    }
  }
  internal_error("no way to measure was tried");
}

SensitivityTable table_of(const Recipe& recipe, const ModelFolder& model, const ChoicePlan& plan) {
  SensitivityTable table;
  table.model = model.checkpoint->folder().filename().string();
  table.fingerprint = model_fingerprint(model);
  for (const Candidate& candidate : recipe.candidates) table.candidates.push_back(candidate_json(candidate));
  for (const ChoiceGroup& group : plan.groups) {
    auto& row = table.groups.emplace_back();
    row.name = group.name;
    row.table = group.block < 0;
    row.weights = group.weights;
    row.candidates = group.candidates;
    if (row.table) row.members = {group.table};
    if (row.table) continue;
    for (const size_t i : group.linears)
      row.members.push_back(model.graph.part(static_cast<size_t>(group.block)).linears[i].name);
  }
  return table;
}

/// All that measuring needs. Keeps references.
struct Measurement {
  CalibrationSet set;
  std::unique_ptr<const Importances> importances;  // that solvers refer to
  Algorithms algorithms;
  SensitivityJob job;
  MemoryPlan memory;
};

Measurement prepare(const RunRequest& request, const Recipe& recipe, const ModelFolder& model,
                    const ChoicePlan& plan, const CalibrationSet* known = nullptr) {
  check_measurable(recipe);
  Measurement made;
  const c10::Device device = resolve_device(request.device);
  ModelText reader = open_model_text(model);
  reader.max_ram = recipe.limits.ram.value_or(0);
  made.set = known ? *known
                   : read_calibration(recipe.calibration, reader,
                                      request.dry_run ? TextExtent::heads : TextExtent::whole);
  const Split data = split(made.set, recipe.sensitivity.held_out, recipe);

  made.importances = std::make_unique<const Importances>(importances_of(recipe, model, plan));
  made.algorithms = algorithms_of(recipe, *made.importances);
  SensitivityJob& job = made.job;
  job.calibration.graph = &model.graph;
  job.calibration.weights = model.weights.get();
  job.calibration.scale_dtype = plan.scale_dtype.value_or(DType::F32);
  job.calibration.ids = data.calibration.ids;
  job.calibration.lengths = data.calibration.lengths;
  job.calibration.token_weights = data.calibration.token_weights;
  job.calibration.experts = recipe.calibration.experts;
  job.calibration.device = device;
  job.calibration.compute = resolve_compute_dtype(request.compute_dtype, device, model.graph.config.dtype);
  job.held_out = data.held_out.ids;
  job.held_out_lengths = data.held_out.lengths;
  for (const auto& transform : made.algorithms.transforms)
    job.calibration.transforms.push_back(transform.get());
  for (size_t c = 0; c < made.algorithms.solvers.size(); ++c) {
    const Candidate& candidate = recipe.candidates[c];
    job.trials.push_back({candidate.describe(), made.algorithms.solvers[c].get(),
                          candidate.block ? Scheme::as_they_are() : plan.schemes[c],
                          candidate.rule.activations});
  }
  add_groups(recipe, plan, job);
  job.measure_kl = recipe.sensitivity.loss == SensitivityLoss::kl;
  job.linear_kl = recipe.sensitivity.linears;
  if (!job.measure_kl) job.checked = spread_groups(job, recipe.sensitivity.checked);
  made.memory = place_measurement(recipe.limits,
                                  work_folder(request.memory.work, recipe.output.path.parent_path()), job);
  return made;
}

}  // namespace

void check_measurable(const Recipe& recipe) {
  if (recipe.calibration.none) {
    user_error(
        "{}: calibration: null, but candidates are measured on activations; give `calibration.data` or "
        "--calib",
        recipe.file);
  }
  if (!recipe.transforms.empty() && !moves_scales(recipe)) {
    user_error(
        "{}: transforms: {} rotates the inputs of all quantised linears, and sensitivity is of one group "
        "alone; leave it out",
        recipe.file, recipe.transforms.front().name);
  }
}

MeasurementPlan plan_measurement(const RunRequest& request, const Recipe& recipe, const ModelFolder& model,
                                 const ChoicePlan& plan, const CalibrationSet* known) {
  const Measurement made = prepare(request, recipe, model, plan, known);
  const SensitivityJob& job = made.job;
  RateProbes probes({job.calibration.device, job.calibration.compute});
  Estimate work = estimate_sensitivity(job, probes);
  return {made.memory, std::move(work), std::move(probes)};
}

Measured measure_candidates(const RunRequest& request, const Recipe& recipe, const ModelFolder& model,
                            const ChoicePlan& plan, Progress& progress) {
  const Measurement made = prepare(request, recipe, model, plan);
  const SensitivityJob& job = made.job;
  progress.line(summarise_dataset(made.set));
  if (!job.estimate)
    progress.line("sensitivity: the limits leave no room for the estimate from gradients beside the KL");
  if (!job.measure_kl && recipe.sensitivity.checked > 0 && job.checked.empty() && !job.groups.empty())
    progress.line("sensitivity: the limits leave no room for the KL that would check the estimate");

  progress.begin("sensitivity", static_cast<int64_t>(model.graph.blocks.size()) + 1);
  const SensitivityResult result = measure_sensitivity(
      job, [&](int64_t done, int64_t, std::string_view stage) { progress.advance(done, 0, stage); });
  progress.end();

  SensitivityTable table = table_of(recipe, model, plan);
  size_t linears = 0, tables = 0;
  for (auto& row : table.groups) row.losses = row.table ? result.tables[tables++] : result.groups[linears++];
  table.data = {
      {"calibration_ids",
       ids_hash(job.calibration.ids, job.calibration.lengths, job.calibration.token_weights)},
      {"held_out_ids", ids_hash(job.held_out, job.held_out_lengths)},
      {"held_out_tokens", result.tokens},
      {"checked_tokens", job.checked.empty() ? nlohmann::json() : nlohmann::json(result.checked_tokens)},
      {"recipe", measured_on(recipe)}};
  table.computed = {{"device", describe_device(job.calibration.device)},
                    {"dtype", name_of(job.calibration.compute)}};
  return {std::move(table), made.set, made.memory};
}

}  // namespace lathe
