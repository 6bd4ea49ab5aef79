#include "apps/quantize/mixed/measure.h"

#include <ATen/ATen.h>

#include <memory>

#include "apps/quantize/dataset.h"
#include "apps/quantize/job.h"
#include "apps/quantize/memory.h"
#include "apps/quantize/mixed/ggml_rounding.h"
#include "calib/sensitivity/trial_solver.h"
#include "lib/base/error.h"
#include "lib/base/process_memory.h"
#include "lib/base/strings.h"
#include "lib/model/compute_dtype.h"
#include "lib/tensor/device.h"
#include "lib/tensor/device_memory.h"

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
    // Row (2 i + 1) / 2 of held_out even pieces: their middles.
    const auto next = static_cast<int64_t>(out.size());
    const bool middle = next < held_out && row == (2 * next + 1) * samples / (2 * held_out);
    (middle ? out : kept).push_back(row);
  }
  Split parts;
  take(set, kept, parts.calibration);
  take(set, out, parts.held_out);
  return parts;
}

/// One solver for each candidate.
std::vector<std::unique_ptr<Solver>> solvers_of(const Recipe& recipe) {
  if (recipe.candidates.front().block) {
    std::vector<std::unique_ptr<Solver>> solvers;
    for (const Candidate& candidate : recipe.candidates)
      solvers.push_back(std::make_unique<GgmlRounding>(*candidate.block));
    return solvers;
  }
  Recipe rules = recipe;
  for (const Candidate& candidate : recipe.candidates) rules.rules.push_back(candidate.rule);
  return make_algorithms(rules).solvers;
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

/// A part of what there is, so that the driver, which plans with the rest, keeps its speed.
constexpr uint64_t kShare = 4;

/// Where the hidden states (or gradients) of so many held-out samples stand: on the device, in host memory,
/// or in a file. What they take is no longer there for the driver. `what` they are, for errors.
HiddenStorage place_states(const SensitivityJob& job, int64_t samples, const char* what,
                           const std::filesystem::path& work, MemoryLimits& limits) {
  const c10::Device device = job.calibration.device;
  const auto values = samples * job.held_out.size(1) * job.calibration.graph->config.hidden_size;
  const uint64_t bytes = static_cast<uint64_t>(values) * sizeof(float);
  HiddenStorage storage{.placement = Placement::disk,
                        .transfer_rows = large_transfer(job.held_out.size(1),
                                                        job.calibration.graph->config.hidden_size, device),
                        .work = work};
  const auto fits = [&](const std::optional<uint64_t>& limit, const std::optional<uint64_t>& there) {
    const auto room = limit ? limit : there;
    return !room || bytes <= *room / kShare;
  };
  const auto less = [&](std::optional<uint64_t>& limit) {
    if (limit) *limit -= bytes;
  };
  if (device.is_cuda() && fits(limits.vram, free_device_memory(device))) {
    storage.placement = Placement::device;
    less(limits.vram);
  } else if (fits(limits.ram, available_memory())) {
    storage.placement = device.is_cpu() ? Placement::device : Placement::host;
    less(limits.ram);
  } else if (limits.disk) {
    if (*limits.disk < bytes)
      user_error(
          "--max-disk (limits.disk): {} take {} bytes, more than {}; hold fewer samples out, or try fewer "
          "candidates",
          what, bytes, *limits.disk);
    less(limits.disk);
  }
  return storage;
}

/// What the estimate works with is no longer there for the driver either.
void take_gradient_work(const SensitivityJob& job, MemoryLimits& limits, const Recipe& recipe) {
  auto& limit = job.calibration.device.is_cuda() ? limits.vram : limits.ram;
  const uint64_t bytes = gradient_work_bytes(job);
  if (!limit || bytes == 0) return;
  if (bytes >= *limit) {
    user_error(
        "{}: sensitivity: the gradients of one held-out row through one block take {}, and the limit is {}; "
        "give calibration.seq_len less, or raise --{}",
        recipe.file, human_bytes(bytes), human_bytes(*limit),
        job.calibration.device.is_cuda() ? "max-vram" : "max-ram");
  }
  *limit -= bytes;
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
      row.members.push_back(model.graph.blocks[static_cast<size_t>(group.block)].linears[i].name);
  }
  return table;
}

}  // namespace

SensitivityTable measure_candidates(const RunRequest& request, const Recipe& recipe, const ModelFolder& model,
                                    const ChoicePlan& plan, Progress& progress) {
  if (recipe.calibration.none) {
    user_error(
        "{}: calibration: null, but candidates are measured on activations; give `calibration.data` or "
        "--calib",
        recipe.file);
  }
  const c10::Device device = resolve_device(request.device);
  const DType compute = resolve_compute_dtype(request.compute_dtype, device, model.graph.config.dtype);
  ModelText reader = open_model_text(model);
  reader.max_ram = recipe.limits.ram.value_or(0);
  const CalibrationSet set = read_calibration(recipe.calibration, reader);
  progress.line(summarise_dataset(set));
  const Split data = split(set, recipe.sensitivity.held_out, recipe);

  const std::vector<std::unique_ptr<Solver>> solvers = solvers_of(recipe);
  SensitivityJob job;
  job.calibration.graph = &model.graph;
  job.calibration.weights = model.weights.get();
  job.calibration.scale_dtype = plan.scale_dtype.value_or(DType::F32);
  job.calibration.ids = data.calibration.ids;
  job.calibration.lengths = data.calibration.lengths;
  job.calibration.token_weights = data.calibration.token_weights;
  job.calibration.experts = recipe.calibration.experts;
  job.calibration.device = device;
  job.calibration.compute = compute;
  job.held_out = data.held_out.ids;
  job.held_out_lengths = data.held_out.lengths;
  for (size_t c = 0; c < solvers.size(); ++c) {
    const Candidate& candidate = recipe.candidates[c];
    job.trials.push_back({candidate.describe(), solvers[c].get(),
                          candidate.block ? Scheme::as_they_are() : plan.schemes[c],
                          candidate.rule.activations});
  }
  add_groups(recipe, plan, job);

  const auto work = work_folder(request.memory.work, recipe.output.path.parent_path());
  MemoryLimits limits = recipe.limits;
  job.measure_kl = recipe.sensitivity.loss == SensitivityLoss::kl;
  job.variants = place_states(job, variant_states(job), "the hidden states of all variants", work, limits);
  job.gradients = place_states(job, gradient_states(job), "the gradients of all blocks", work, limits);
  take_gradient_work(job, limits, recipe);
  const TrialSolver planned(model.graph, job.trials, job.groups);
  job.calibration.storage = plan_run_memory(limits, trial_job(job, planned), work, 0, 0).storage;

  progress.begin("sensitivity", static_cast<int64_t>(model.graph.blocks.size()) + 1);
  const SensitivityResult result = measure_sensitivity(
      job, [&](int64_t done, int64_t, std::string_view stage) { progress.advance(done, 0, stage); });
  progress.end();

  SensitivityTable table = table_of(recipe, model, plan);
  size_t linears = 0, tables = 0;
  for (auto& row : table.groups) row.losses = row.table ? result.tables[tables++] : result.groups[linears++];
  table.data = {{"calibration_ids",
                 ids_hash(job.calibration.ids, job.calibration.lengths, job.calibration.token_weights)},
                {"held_out_ids", ids_hash(job.held_out, job.held_out_lengths)},
                {"held_out_tokens", result.tokens}};
  table.computed = {{"device", describe_device(device)}, {"dtype", name_of(compute)}};
  return table;
}

}  // namespace lathe
