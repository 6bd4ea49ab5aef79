#include "apps/quantize/pipeline.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "apps/quantize/artifact.h"
#include "apps/quantize/dataset.h"
#include "apps/quantize/id_dump.h"
#include "apps/quantize/manifest.h"
#include "apps/quantize/memory.h"
#include "apps/quantize/progress.h"
#include "apps/quantize/read_back.h"
#include "apps/quantize/reporting.h"
#include "calib/data/data_warnings.h"
#include "calib/data/token_rows.h"
#include "calib/driver/driver.h"
#include "formats/targets/model_folder.h"
#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/eval/evaluate.h"
#include "lib/model/compute_dtype.h"
#include "lib/tensor/device.h"
#include "recipes/plan.h"
#include "recipes/recipe.h"

namespace lathe {
namespace {

/// The recipe with the command line's flags on top.
Recipe effective_recipe(const RunRequest& request) {
  Recipe recipe = load_recipe(request.recipe, request.sets);
  if (request.model) recipe.model = *request.model;
  if (request.output) recipe.output.path = *request.output;
  if (!request.calib.empty()) {
    recipe.calibration.data.clear();
    for (const auto& path : request.calib) recipe.calibration.data.push_back({.path = path});
  }
  if (request.memory.ram) recipe.limits.ram = request.memory.ram;
  if (request.memory.vram) recipe.limits.vram = request.memory.vram;
  if (request.memory.disk) recipe.limits.disk = request.memory.disk;
  if (recipe.model.empty()) user_error("{}: no model: give `model:` or --model", recipe.file);
  if (recipe.output.path.empty()) user_error("{}: no output: give `output.path` or --output", recipe.file);
  if (recipe.calibration.data.empty())
    user_error("{}: no calibration text: give `calibration.data` or --calib", recipe.file);
  return recipe;
}

ModelFolder open_source(const Recipe& recipe) {
  ModelFolder model = open_model_folder(recipe.model);
  if (model.quantized) {
    user_error("{}: is quantised already; give the floating-point checkpoint that it was made from",
               recipe.model.string());
  }
  return model;
}

/// A plan that can't be carried out is no plan: the files of text are there.
void check_texts_exist(const Recipe& recipe) {
  std::vector<std::filesystem::path> paths;
  for (const DataSource& source : recipe.calibration.data) paths.push_back(source.path);
  if (recipe.evaluate) paths.push_back(recipe.evaluate->text);
  for (const auto& path : paths) {
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(path, ignored)) {
      user_error("{}: no such text file (calibration.data, --calib or evaluate.text)", path.string());
    }
  }
}

/// --overwrite must never cost the model: the output may not be the model's folder or one around it.
void check_output_apart(const Recipe& recipe) {
  std::error_code ignored;
  const auto output = std::filesystem::weakly_canonical(recipe.output.path, ignored);
  for (auto folder = std::filesystem::weakly_canonical(recipe.model, ignored); folder != folder.root_path();
       folder = folder.parent_path()) {
    if (folder == output) {
      user_error("output {}: is the model's own folder or holds it; choose another place",
                 recipe.output.path.string());
    }
  }
}

/// The first `count` rows; all of them where count is 0 or larger than there are.
at::Tensor first_rows(const at::Tensor& rows, int64_t count, const std::filesystem::path& text) {
  if (rows.size(0) == 0) {
    user_error("{}: too short to score: not one row of {} tokens; use more text or a smaller ctx",
               text.string(), rows.size(1));
  }
  return count == 0 || count >= rows.size(0) ? rows : rows.narrow(0, 0, count);
}

/// The widest linear that is to be quantised: the size of the largest statistic.
int64_t widest_input(const Plan& plan) {
  int64_t widest = 0;
  for (const PlannedLinear& linear : plan.quantized()) widest = std::max(widest, linear.in);
  return widest;
}

/// All text of a run as ids, read before any computing: what is wrong with it is known at once.
RunText read_data(const Recipe& recipe, const Plan& plan, const ModelFolder& model) {
  const ModelText reader = open_model_text(recipe.model, model.graph.config.vocab_size);
  RunText text;
  text.calibration = read_calibration(recipe.calibration, reader);
  const int64_t max_position = model.graph.config.max_position;
  text.warnings = plan.warnings;
  const auto about_data =
      data_warnings(text.calibration, {widest_input(plan), max_position, reader.vocabulary_scripts()});
  text.warnings.insert(text.warnings.end(), about_data.begin(), about_data.end());
  if (recipe.evaluate) {
    RowCounts counts;
    text.evaluation = first_rows(
        token_rows({{.path = recipe.evaluate->text}}, reader.encoder(), recipe.evaluate->ctx, counts),
        recipe.evaluate->rows, recipe.evaluate->text);
    warn_length("evaluate.ctx", recipe.evaluate->ctx, max_position, text.warnings);
  }
  return text;
}

void print_dataset(const RunRequest& request, const RunText& text) {
  fmt::print("{}", describe_dataset(text.calibration));
  for (const std::string& warning : text.warnings) fmt::print("warning    {}\n", warning);
  dump_ids(request, text.calibration);
}

/// Instances of the algorithms that a recipe names; they live as long as the run.
struct Algorithms {
  std::vector<std::unique_ptr<Transform>> transforms;
  std::vector<std::unique_ptr<Solver>> solvers;  // one for each rule
};

template <class Entry>
auto make_algorithm(const std::vector<Entry>& table, const AlgorithmChoice& choice) {
  for (const Entry& entry : table) {
    if (entry.name == choice.name) return entry.make(choice.options);
  }
  internal_error("no algorithm '{}', though the recipe reader accepted it", choice.name);
}

Algorithms make_algorithms(const Recipe& recipe) {
  Algorithms algorithms;
  for (const AlgorithmChoice& choice : recipe.transforms) {
    algorithms.transforms.push_back(make_algorithm(transforms(), choice));
  }
  for (const Rule& rule : recipe.rules) algorithms.solvers.push_back(make_algorithm(solvers(), rule.solver));
  return algorithms;
}

CalibrationJob make_job(const Recipe& recipe, const Plan& plan, const ModelFolder& model,
                        const Algorithms& algorithms, c10::Device device, DType compute) {
  CalibrationJob job{.graph = &model.graph,
                     .weights = model.weights.get(),
                     .tasks = {},
                     .transforms = {},
                     .scale_dtype = plan.scale_dtype,
                     .ids = {},
                     .lengths = {},
                     .propagate = recipe.calibration.propagate,
                     .experts = recipe.calibration.experts,
                     .device = device,
                     .compute = compute,
                     .storage = {}};
  for (const auto& transform : algorithms.transforms) job.transforms.push_back(transform.get());
  for (const auto& block : plan.blocks) {
    auto& tasks = job.tasks.emplace_back();
    for (const LinearPlan& linear : block) {
      tasks.push_back(linear.quantized ? LinearTask{algorithms.solvers[linear.rule].get(), linear.scheme}
                                       : LinearTask{});
    }
  }
  return job;
}

/// What a run will take, phase by phase.
struct RunMemory {
  MemoryPlan calibration;
  std::optional<EvalMemory> evaluation;  // none asked for
};

/// Gives the job its samples. UserError where a limit can't be kept.
RunMemory plan_memory_of(const Recipe& recipe, const ModelFolder& model, const RunText& text,
                         CalibrationJob& job, const std::filesystem::path& work) {
  job.ids = text.calibration.ids;
  job.lengths = text.calibration.lengths;
  RunMemory memory{plan_run_memory(recipe.limits, job, work), std::nullopt};
  if (text.evaluation.defined()) {
    // The artefact has the model's graph.
    memory.evaluation = plan_eval_memory(model, &model, text.evaluation, recipe.limits, job.device, work);
  }
  return memory;
}

std::vector<std::unique_ptr<ArtifactWriter>> open_writers(const Recipe& recipe, const Plan& plan,
                                                          const ModelFolder& model,
                                                          const std::filesystem::path& folder) {
  std::vector<std::unique_ptr<ArtifactWriter>> writers;
  for (const OutputPlan& output : plan.outputs) {
    const std::filesystem::path place = output.subfolder.empty() ? folder : folder / output.subfolder;
    std::filesystem::create_directories(place);
    writers.push_back(std::make_unique<ArtifactWriter>(plan, output, model.graph, *model.checkpoint, place,
                                                       recipe.output.shard_size));
    writers.back()->write_outside_blocks();
  }
  return writers;
}

/// The one pass: every finished block goes to every writer and to the report, then it is gone.
void quantise(const CalibrationJob& job, std::vector<std::unique_ptr<ArtifactWriter>>& writers,
              RunReport& report, WrittenTensors& written, Progress& progress) {
  const auto blocks = static_cast<int64_t>(job.graph->blocks.size());
  progress.begin("quantise", blocks);
  calibrate(job, {.block_done =
                      [&](BlockOutcome&& outcome) {
                        for (auto& writer : writers) writer->write_block(outcome);
                        report.add_block(outcome);
                        written.note(outcome);
                      },
                  .progress =
                      [&](int64_t done, std::string_view stage) {
                        progress.advance(done, done * job.ids.numel(), stage);
                      }});
  for (auto& writer : writers) writer->finish();
  progress.end();
}

EvalResult evaluate_with_progress(const ModelFolder& model, const ModelFolder* reference,
                                  const at::Tensor& ids, c10::Device device, DType compute,
                                  const HiddenStorage& storage, Progress& progress) {
  std::optional<EvalInput> against;
  if (reference != nullptr) against = EvalInput{&reference->graph, reference->weights.get()};
  bool begun = false;
  const auto show = [&](int64_t done, int64_t total) {
    if (!std::exchange(begun, true)) progress.begin("evaluate", total);
    progress.advance(done, 0, "");
  };
  const EvalResult result =
      evaluate({&model.graph, model.weights.get()}, against, ids, device, show, storage, compute);
  progress.end();
  return result;
}

}  // namespace

void run_pipeline(const RunRequest& request) {
  const Recipe recipe = effective_recipe(request);
  const ModelFolder model = open_source(recipe);  // headers only
  const Plan plan = make_plan(recipe, model.graph, model.checkpoint->tensors());
  const c10::Device device = resolve_device(request.device);
  const DType compute = resolve_compute_dtype(request.compute_dtype, device, model.graph.config.dtype);
  check_texts_exist(recipe);
  check_id_dump(request, recipe);
  const Algorithms algorithms = make_algorithms(recipe);
  CalibrationJob job = make_job(recipe, plan, model, algorithms, device, compute);
  const std::filesystem::path work = work_folder(request.memory.work, recipe.output.path.parent_path());
  if (request.dry_run) {
    const RunText text = read_data(recipe, plan, model);
    const RunMemory memory = plan_memory_of(recipe, model, text, job, work);
    fmt::print("{}{}", describe_plan(plan, recipe, model.graph), describe_memory(memory.calibration));
    if (memory.evaluation) fmt::print("{}", describe_eval_memory(*memory.evaluation));
    return print_dataset(request, text);
  }

  check_output_apart(recipe);
  RunReport report(recipe, plan, model, device, compute);
  Progress progress(request.quiet);
  OutputFolder output(recipe.output.path, request.overwrite);

  const RunText text = report.timed("read text", [&] { return read_data(recipe, plan, model); });
  report.set_text(text);
  dump_ids(request, text.calibration);
  progress.line(summarise_dataset(text.calibration));
  for (const std::string& warning : text.warnings) progress.line("warning: " + warning);

  // All of the run is planned before any of it is computed: a limit is refused now, or kept.
  const RunMemory memory = plan_memory_of(recipe, model, text, job, work);
  report.set_memory(memory.calibration);
  if (memory.evaluation) report.set_eval_memory(*memory.evaluation);

  auto writers =
      report.timed("open output", [&] { return open_writers(recipe, plan, model, output.path()); });
  job.storage = memory.calibration.storage;
  WrittenTensors written;
  report.timed("quantise", [&] { quantise(job, writers, report, written, progress); });

  const ModelFolder artifact = open_model_folder(writers.front()->folder());  // as it stands on disk
  report.timed("read back", [&] { written.compare(artifact); });
  if (text.evaluation.defined()) {
    report.set_evaluation(report.timed("evaluate", [&] {
      return evaluate_with_progress(artifact, &model, text.evaluation, device, compute,
                                    memory.evaluation->storage, progress);
    }));
  }
  for (const auto& writer : writers) {
    report.write(writer->folder());
    write_manifest(writer->folder(), recipe, text.calibration);
  }
  output.commit();
  if (!request.quiet)
    fmt::print("{}\nwritten to {}\n", report.terminal_summary(), recipe.output.path.string());
}

void run_eval(const EvalRequest& request) {
  const ModelFolder model = open_model_folder(request.model);
  std::optional<ModelFolder> reference;
  if (request.reference) reference = open_model_folder(*request.reference);
  const c10::Device device = resolve_device(request.device);
  const ModelText reader = open_model_text(request.model, model.graph.config.vocab_size);
  const DType compute = resolve_compute_dtype(request.compute_dtype, device, model.graph.config.dtype);
  RowCounts counts;
  const at::Tensor rows =
      first_rows(token_rows({{.path = request.text}}, reader.encoder(), request.ctx, counts), request.rows,
                 request.text);

  const ModelFolder* against = reference ? &*reference : nullptr;
  const auto work = work_folder(request.memory.work, std::filesystem::temp_directory_path());
  const MemoryLimits limits{request.memory.ram, request.memory.vram, request.memory.disk};
  const EvalMemory memory = plan_eval_memory(model, against, rows, limits, device, work);

  Progress progress(request.json);
  const EvalResult result =
      evaluate_with_progress(model, against, rows, device, compute, memory.storage, progress);
  fmt::print(
      "{}",
      request.json
          ? eval_json(request, result).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"
          : eval_text(request, result));
}

}  // namespace lathe
