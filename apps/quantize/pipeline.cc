#include "apps/quantize/pipeline.h"

#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "apps/quantize/artifact.h"
#include "apps/quantize/dry_run.h"
#include "apps/quantize/evaluation.h"
#include "apps/quantize/finish.h"
#include "apps/quantize/fold_check.h"
#include "apps/quantize/gguf_artifact.h"
#include "apps/quantize/id_dump.h"
#include "apps/quantize/job.h"
#include "apps/quantize/journal/run_identity.h"
#include "apps/quantize/journal/run_journal.h"
#include "apps/quantize/memory.h"
#include "apps/quantize/mixed/mixture.h"
#include "apps/quantize/mixed/rules_sensitivity.h"
#include "apps/quantize/progress.h"
#include "apps/quantize/read_back.h"
#include "apps/quantize/reporting.h"
#include "apps/quantize/request_checks.h"
#include "apps/quantize/run_memory.h"
#include "apps/quantize/run_text.h"
#include "apps/quantize/weights_only.h"
#include "calib/data/data_warnings.h"
#include "calib/driver/expert_fallback.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/process_memory.h"
#include "lib/model/compute_dtype.h"
#include "lib/tensor/device.h"
#include "recipes/plan.h"
#include "recipes/recipe.h"

namespace lathe {
namespace {

/// The one pass: every finished block goes to every writer and to the report, then it is gone. Blocks that
/// the journal holds go the same way first. UserError for a transform that did nothing.
void quantise(const CalibrationJob& job, const Recipe& recipe, ArtifactWriters& writers, RunReport& report,
              WrittenTensors& written, RunJournal& journal, Progress& progress) {
  const size_t parts = job.tasks.size();
  FoldCensus folds;
  const auto pass_on = [&](const BlockOutcome& outcome) {
    for (auto& writer : writers) writer->write_block(outcome);
    report.add_block(outcome);
    folds.note(outcome);
    written.note(*job.graph, outcome);
  };
  progress.begin("quantise", static_cast<int64_t>(parts));
  while (journal.has_next()) {
    throw_if_cancelled();
    pass_on(journal.next());
    release_free_memory();
  }
  calibrate(
      job,
      {.block_done =
           [&](BlockOutcome&& outcome) {
             journal.add(outcome);
             pass_on(outcome);
           },
       .progress = [&](int64_t done,
                       std::string_view stage) { progress.advance(done, done * job.ids.numel(), stage); },
       .boundary = [&](size_t next, const auto& hand_over) { journal.commit(next, hand_over); }},
      {.block = journal.finished(), .states = [&](at::Tensor& states) { journal.fill_states(states); }});
  journal.commit(parts);
  try {
    folds.check(recipe);
  } catch (const UserError&) {
    journal.remove();  // whoever goes on comes to the same
    throw;
  }
  for (auto& writer : writers) writer->finish();
  progress.end();
}

/// Nothing is left of the run but a journal to remove.
bool tell_finished(const RunRequest& request, const Recipe& recipe) {
  if (!request.resume || !RunJournal::was_finished(recipe.output.path)) return false;
  if (!request.quiet) fmt::print("was finished already: {}\n", recipe.output.path.string());
  return true;
}

}  // namespace

void run_pipeline(const RunRequest& request) {
  const Recipe asked = effective_recipe(request);
  if (tell_finished(request, asked)) return;
  std::optional<ChosenMixture> mixture;
  if (!asked.candidates.empty()) mixture = choose_mixture(request, asked);
  const Recipe& recipe = mixture ? mixture->recipe : asked;
  std::optional<RulesMeasured> measured;
  if (recipe.sensitivity.of_rules) measured = measure_rules(request, recipe);
  if (is_weights_only(recipe)) return run_weights_only(request, recipe);
  // Headers only; those of a mixture that is only planned are open already.
  const std::shared_ptr<const ModelFolder> opened =
      mixture && mixture->model ? mixture->model : std::make_shared<const ModelFolder>(open_source(recipe));
  const ModelFolder& model = *opened;
  Plan plan = make_plan(recipe, model.graph, model.checkpoint->tensors());
  warn_dequantised(model, plan.warnings);
  check_gguf_tokenizer(plan, model, recipe.output.gguf_pre_tokenizer);
  const c10::Device device = resolve_device(request.device);
  warn_limits(recipe.limits, device, plan.warnings);
  if (mixture) plan.warnings.insert(plan.warnings.end(), mixture->warnings.begin(), mixture->warnings.end());
  if (measured)
    plan.warnings.insert(plan.warnings.end(), measured->warnings.begin(), measured->warnings.end());
  const DType compute = resolve_compute_dtype(request.compute_dtype, device, model.graph.config.dtype);
  check_texts_exist(recipe);
  check_id_dump(request, recipe);
  const Algorithms algorithms = make_algorithms(recipe);
  CalibrationJob job = make_job(recipe, plan, model, algorithms, device, compute);
  check_expert_fallback(job);
  const std::filesystem::path work = work_folder(request.memory.work, recipe.output.path.parent_path());
  if (request.dry_run) {
    const TextExtent extent = request.dump_ids ? TextExtent::whole : TextExtent::heads;
    const RunText text = read_run_text(recipe, plan, model, extent);
    DryRun run{.recipe = recipe,
               .plan = plan,
               .graph = model.graph,
               .calibration = &text.calibration,
               .wanted_tokens = text.wanted_tokens,
               .evaluated = {rows_of(text.evaluation), text.evaluation_read},
               .warnings = text.warnings};
    if (mixture) run.budget = nlohmann::json::parse(mixture->json);
    PlanMeasuring to_measure;
    if (mixture) to_measure = mixture->to_measure;
    if (measured) to_measure = measured->to_measure;
    std::optional<MeasurementPlan> measuring;
    RunMemory memory;
    try {
      if (to_measure) measuring = to_measure(text);
      memory = plan_memory_of(request, recipe, plan, model, text, job, work);
    } catch (const UserError&) {
      print_dry_run(request, run);  // all but that stands
      throw;
    }
    job.storage = memory.calibration.storage;
    RateProbes probes = measuring ? measuring->probes : RateProbes({device, compute});
    Estimate estimate =
        estimate_run({recipe, plan, model.graph, algorithms, probes, rows_of(text.evaluation)}, job);
    if (measuring) estimate = one_after_other(measuring->work, estimate);
    run.estimate = &estimate;
    run.measuring = measuring ? &*measuring : nullptr;
    run.memory = &memory.calibration;
    run.evaluation = memory.evaluation ? &*memory.evaluation : nullptr;
    print_dry_run(request, run);
    return dump_ids(request, text.calibration);
  }

  check_output_apart(recipe);
  RunReport report(recipe, plan, model, device, compute);
  Progress progress(request.quiet);
  OutputFolder output(recipe.output.path, request.overwrite);
  RunJournal journal(output, request);

  const RunText text =
      report.timed("read text", [&] { return read_run_text(recipe, plan, model, TextExtent::whole); });
  report.set_text(text);
  if (mixture) {
    report.set_budget(nlohmann::json::parse(mixture->json));
    report.set_sensitivity(mixture->sensitivity, mixture->measuring_seconds);
  }
  if (measured) report.set_sensitivity(measured->section, measured->seconds);
  dump_ids(request, text.calibration);
  progress.line(summarise_dataset(text.calibration));
  for (const std::string& warning : plan.output_warnings()) progress.line("warning: " + warning);
  for (const std::string& warning : text.warnings) progress.line("warning: " + warning);

  // All of the run is planned before any of it is computed: a limit is refused now, or kept.
  const RunMemory memory = plan_memory_of(request, recipe, plan, model, text, job, work);
  report.set_memory(memory.calibration);
  if (memory.evaluation) report.set_eval_memory(*memory.evaluation);

  job.storage = memory.calibration.storage;
  const std::optional<int64_t> together =
      micro_batch_rounds(job) ? std::optional(job.storage.micro_batch) : std::nullopt;
  report.timed("journal", [&] {
    journal.begin(model.graph,
                  run_identity(recipe, model, text.calibration, text.evaluation, device, compute, together));
  });
  for (const std::string& line :
       journal.news(plan.parts(), plan.lm_head.quantized ? "blocks and head" : "blocks"))
    progress.line(line);
  journal.guard([&] {
    auto writers =
        report.timed("open output", [&] { return open_writers(recipe, plan, model, output.path()); });
    if (job.hand_over_weights)
      job.round_for_formats = [&](const Linear& linear, const GivenWeight& given) {
        return round_ahead(writers, linear, given);
      };
    WrittenTensors written;
    report.timed("quantise", [&] { quantise(job, recipe, writers, report, written, journal, progress); });

    if (mixture) mixture->write(writers);
    output.before_commit([&] { journal.note_written(output.path()); });
    finish_run(
        {request, recipe, model, text.evaluation, memory.evaluation, device, compute, text.calibration},
        [](const auto& folder) { return open_model_folder(folder); }, writers, written, report, progress,
        output);
    journal.remove();
  });
}

void run_eval(const EvalRequest& request) {
  ModelFolder model = open_model_folder(request.model);
  if (request.kv_cache) model = with_kv_cache(std::move(model), *request.kv_cache);
  std::optional<ModelFolder> reference;
  if (request.reference) reference = open_model_folder(*request.reference);
  const c10::Device device = resolve_device(request.device);
  ModelText reader = open_model_text(model);
  reader.max_ram = request.memory.ram.value_or(0);
  const DType compute = resolve_compute_dtype(request.compute_dtype, device, model.graph.config.dtype);
  const at::Tensor rows = read_evaluation(request.text, reader, request.ctx, request.rows);

  const ModelFolder* against = reference ? &*reference : nullptr;
  const auto work = work_folder(request.memory.work, std::filesystem::temp_directory_path());
  const MemoryLimits limits{request.memory.ram, request.memory.vram, request.memory.disk};
  const EvalMemory memory = plan_eval_memory(model, against, rows, limits, device, work);

  Progress progress(request.json);
  std::vector<std::string> warnings;
  warn_limits(limits, device, warnings);
  warn_length("--ctx", request.ctx, model.graph.config.max_position, warnings);
  for (const std::string& warning : warnings) progress.line("warning: " + warning);
  const EvalResult result =
      evaluate_with_progress(model, against, rows, device, compute, memory.storage, progress);
  fmt::print(
      "{}",
      request.json
          ? eval_json(request, model, result).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) +
                "\n"
          : eval_text(request, model, result));
}

}  // namespace lathe
