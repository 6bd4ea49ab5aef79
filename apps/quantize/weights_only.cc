#include "apps/quantize/weights_only.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <map>

#include "algorithms/tensor_scale.h"
#include "apps/quantize/artifact.h"
#include "apps/quantize/dry_run.h"
#include "apps/quantize/finish.h"
#include "apps/quantize/gguf_artifact.h"
#include "apps/quantize/job.h"
#include "apps/quantize/journal/journal_size.h"
#include "apps/quantize/journal/run_identity.h"
#include "apps/quantize/journal/run_journal.h"
#include "apps/quantize/memory.h"
#include "apps/quantize/progress.h"
#include "apps/quantize/read_back.h"
#include "apps/quantize/reporting.h"
#include "apps/quantize/request_checks.h"
#include "apps/quantize/run_text.h"
#include "calib/data/data_warnings.h"
#include "formats/safetensors/json_text.h"
#include "formats/targets/gguf_folder.h"
#include "lib/base/cancel.h"
#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/process_memory.h"
#include "lib/base/strings.h"
#include "lib/kernels/dequantize.h"
#include "lib/model/compute_dtype.h"
#include "lib/model/forward.h"
#include "lib/model/weights_graph.h"
#include "lib/tensor/device.h"
#include "recipes/fused_by_name.h"
#include "recipes/plan.h"

namespace lathe {
namespace {

constexpr size_t kNamedShapes = 3;

std::string model_type_of(const Checkpoint& checkpoint) {
  const auto type = checkpoint.config().find("model_type");
  return type != checkpoint.config().end() && type->is_string() ? type->get<std::string>() : "unknown";
}

/// What needs statistics of activations; empty where nothing does.
std::string needs_data(const Recipe& recipe) {
  const Algorithms algorithms = make_algorithms(recipe);
  if (recipe.kv_cache && recipe.kv_cache->calibrated()) return "kv_cache";
  if (recipe.report.activations) return "report.activations";
  // A transform moves scales between linears or rotates their inputs, which only the driver does.
  if (!recipe.transforms.empty()) return "transform " + recipe.transforms.front().name;
  for (size_t i = 0; i < algorithms.solvers.size(); ++i) {
    if (algorithms.solvers[i]->needs() != StatSet{}) return "solver " + recipe.rules[i].solver.name;
    const auto& activations = recipe.rules[i].activations;
    if (activations && activations->scheme.calibrated())
      return "the scale of activations " + activations->scheme.describe();
  }
  return {};
}

/// A family that Lathe doesn't know may be a slip, so going without the model is for the user to say.
void refuse_unknown_family(const Recipe& recipe) {
  if (find_gguf_model(recipe.model)) return;  // has no other families
  const Checkpoint checkpoint = Checkpoint::open(recipe.model);
  const std::string type = model_type_of(checkpoint);
  if (!checkpoint.config().contains("model_type") || is_known_family(type)) return;
  user_error(
      "{}: {}; nothing in this recipe needs activations: with `calibration: null` each weight is quantised "
      "by itself",
      (recipe.model / "config.json").string(), unsupported_family_message(type));
}

/// A model whose weights can be looked at one by one.
struct WeightsModel {
  ModelFolder folder;
  bool known = false;                 // Lathe can run it
  std::vector<std::string> warnings;  // what it can't because it isn't
};

/// Shapes that are left as they are because nobody knows what they mean. all: the model's weights.
void warn_shapes(const std::vector<std::pair<std::string, TensorInfo>>& shapes, int64_t all,
                 std::vector<std::string>& warnings) {
  if (shapes.empty()) return;
  std::string names;
  for (size_t i = 0; i < std::min(shapes.size(), kNamedShapes); ++i)
    names +=
        fmt::format("{}{} {}", i > 0 ? ", " : "", shapes[i].first, describe_shape(shapes[i].second.shape));
  int64_t weights = 0;
  for (const auto& [name, info] : shapes) weights += info.numel();
  warnings.push_back(fmt::format(
      "{} tensors of more than two dimensions stay in floating point, {} weights in all, {:.1f} % of the "
      "model's ({}{}): how matrices stand in them (fused experts, convolutions) is not known for this family",
      shapes.size(), weights, 100 * static_cast<double>(weights) / static_cast<double>(all), names,
      shapes.size() > kNamedShapes ? ", ..." : ""));
}

WeightsModel open_weights(const Recipe& recipe) {
  WeightsModel model;
  if (find_gguf_model(recipe.model)) {
    model.known = true;
    model.folder = open_source(recipe);
    return model;
  }
  const Checkpoint checkpoint = Checkpoint::open(recipe.model);
  const std::string type = model_type_of(checkpoint);
  model.known = is_known_family(type);
  if (model.known) {
    model.folder = open_source(recipe);
    return model;
  }
  UnknownModel opened = open_unknown_model(recipe.model, type);
  model.folder = std::move(opened.folder);
  model.warnings.push_back(fmt::format(
      "model_type {} is not one that Lathe can run: every matrix that isn't an embedding, norm or head "
      "is taken for a linear; no calibration, no evaluation",
      quote_text(type)));
  if (recipe.evaluate) model.warnings.push_back("`evaluate` is left out: the model can't be run");
  int64_t all = 0;
  for (const auto& [name, info] : model.folder.checkpoint->tensors()) all += info.numel();
  warn_shapes(opened.other_shapes, all, model.warnings);
  return model;
}

/// A linear, and the block that it stands in.
struct PlacedLinear {
  size_t block = 0;
  const LinearPlan* plan = nullptr;
};
/// Linears that are solved at a time: one by one, but for fused ones that share the scale of the tensor. By
/// names: an unknown model's linears have no inputs, and each has a block of its own.
using Together = std::vector<PlacedLinear>;

/// In the order of their first ones.
std::vector<Together> solved_together(const Plan& plan) {
  std::vector<Together> all;
  std::map<std::string, size_t> sharing;  // where those that share by this name stand
  for (size_t b = 0; b < plan.parts(); ++b) {
    for (const LinearPlan& linear : plan.part(b)) {
      if (!linear.quantized) continue;
      const bool shares = has_tensor_scale(linear.scheme);
      const std::string name = shares ? sharing_by_name(*linear.linear) : "";
      const auto [place, is_first] = sharing.emplace(name, all.size());
      if (name.empty() || is_first) {
        all.push_back({{b, &linear}});
      } else {
        all[place->second].push_back({b, &linear});
      }
    }
  }
  return all;
}

/// Weights from the file to their codes.
std::vector<LinearOutcome> solve(const ModelFolder& model, const Together& plans, const Solver& solver,
                                 DType scale_dtype, c10::Device device, bool hand_over) {
  const Stopwatch watch;
  SharedInputProblem problem;
  for (const PlacedLinear& placed : plans) {
    const Linear& linear = *placed.plan->linear;
    const at::Tensor weight = model.weights->load(linear.name + ".weight").to(device);
    problem.linears.push_back(
        {linear.name, linear.role, weight, placed.plan->scheme, scale_dtype, std::nullopt});
  }
  std::vector<SolveResult> solved = solver.solve(problem);
  std::vector<LinearOutcome> outcomes;
  for (size_t k = 0; k < plans.size(); ++k) {
    LinearOutcome& outcome = outcomes.emplace_back();
    const at::Tensor& weight = problem.linears[k].weight;
    const LinearPlan& plan = *plans[k].plan;
    outcome.linear = plan.linear;
    outcome.distortion = distortion_sums(weight, kernels::dequantized_rows(solved[k].quantized), {}).read();
    outcome.histogram = count_weights(weight, solved[k].quantized).read();
    outcome.quantized = solved[k].quantized.cpu();
    if (plan.activations) outcome.quantized.input = InputQuantizer{.scheme = *plan.activations};
    outcome.seconds = watch.seconds() / static_cast<double>(plans.size());
    outcome.events = std::move(solved[k].events);
    if (hand_over) outcome.given = GivenWeight{weight.cpu(), {}, 0};
  }
  return outcomes;
}

/// What became of them: fresh, and then in the journal, or as the journal of an unfinished run has it. `done`
/// of their kind are finished with them.
std::vector<BlockOutcome> outcomes_of(const Together& linears, size_t done, RunJournal& journal,
                                      const std::function<std::vector<LinearOutcome>()>& solve_them) {
  std::vector<BlockOutcome> outcomes;
  if (journal.has_next()) {
    while (outcomes.size() < linears.size()) outcomes.push_back(journal.next());
    return outcomes;
  }
  std::vector<LinearOutcome> solved = solve_them();
  for (size_t k = 0; k < solved.size(); ++k) {
    BlockOutcome& outcome = outcomes.emplace_back();
    outcome.index = linears[k].block;
    outcome.linears.push_back(std::move(solved[k]));
    journal.add(outcome);
  }
  journal.commit(done);
  return outcomes;
}

/// Every linear goes to every writer and to the report, then it is gone.
void quantise(const WeightsModel& model, const Plan& plan, const Algorithms& algorithms, c10::Device device,
              ArtifactWriters& writers, RunReport& report, WrittenTensors& written, RunJournal& journal,
              Progress& progress) {
  progress.begin("quantise", static_cast<int64_t>(plan.parts()));
  const std::vector<Together> all = solved_together(plan);
  auto next = all.begin();
  for (size_t b = 0; b < plan.parts(); ++b) {
    for (; next != all.end() && next->front().block == b; ++next) {
      throw_if_cancelled();
      const auto done = static_cast<size_t>(next - all.begin()) + 1;
      for (const BlockOutcome& outcome : outcomes_of(*next, done, journal, [&] {
             return solve(model.folder, *next, *algorithms.solvers[next->front().plan->rule],
                          plan.scale_dtype, device, plan.rounds_weights());
           })) {
        for (auto& writer : writers) writer->write_linear(outcome.linears.front());
        report.add_block(outcome);
        written.note(model.folder.graph, outcome);
      }
    }
    const bool is_block = b < plan.blocks.size();
    if (plan.kv_cache && is_block) {
      BlockOutcome cache;
      cache.index = b;
      cache.kv_cache = KvCacheQuantizer{*plan.kv_cache};
      for (auto& writer : writers)
        writer->write_kv_cache(attention_module(model.folder.graph.blocks[b]), *cache.kv_cache);
      report.add_block(cache);
      written.note(model.folder.graph, cache);
    }
    for (auto& writer : writers)
      if (is_block) writer->write_rest(b, {});
    release_free_memory();  // what solvers took lies between what the report keeps, and must not add up
    progress.advance(static_cast<int64_t>(b) + 1, 0, "");
  }
  for (auto& writer : writers) writer->finish();
  progress.end();
}

uint64_t journal_bytes(const Plan& plan, const ModelFolder& model) {
  const uint64_t weight_bytes = kept_weight_bytes(model.checkpoint->tensors(), model.graph);
  uint64_t bytes = 0;
  for (const Together& linears : solved_together(plan)) {
    for (const PlacedLinear& placed : linears)
      bytes += linear_journal_bytes(*placed.plan->linear, placed.plan->scheme, plan.rounds_weights(),
                                    weight_bytes);
  }
  return bytes;
}

/// Of weights that stand in memory together.
int64_t most_weights(const Plan& plan) {
  int64_t most = 0;
  for (const Together& linears : solved_together(plan)) {
    int64_t weights = 0;
    for (const PlacedLinear& placed : linears) weights += placed.plan->linear->out * placed.plan->linear->in;
    most = std::max(most, weights);
  }
  return most;
}

/// The evaluation's text as ids, where there is one and the model can be run.
EvaluationRows read_evaluation_of(const Recipe& recipe, const WeightsModel& model, TextExtent extent,
                                  std::vector<std::string>& warnings) {
  if (!recipe.evaluate || !model.known) return {};
  const ModelConfig& config = model.folder.graph.config;
  ModelText reader = open_model_text(model.folder);
  reader.max_ram = recipe.limits.ram.value_or(0);
  const auto& asked = *recipe.evaluate;
  warn_length("evaluate.ctx", asked.ctx, config.max_position, warnings);
  if (extent == TextExtent::heads) return plan_evaluation(asked.text, reader, asked.ctx, asked.rows);
  return {read_evaluation(asked.text, reader, asked.ctx, asked.rows)};
}

}  // namespace

bool is_weights_only(const Recipe& recipe) {
  const std::string needs = needs_data(recipe);
  if (recipe.calibration.none) {
    if (needs.empty()) return true;
    user_error("{}: calibration: null, but {} works on activations; give `calibration.data` or --calib",
               recipe.file, needs);
  }
  if (needs.empty()) refuse_unknown_family(recipe);
  return false;
}

void run_weights_only(const RunRequest& request, Recipe recipe) {
  if (request.dump_ids) user_error("--dump-ids: a run without calibration data has no ids");
  const WeightsModel model = open_weights(recipe);
  recipe.calibration.none = true;
  if (recipe.kv_cache && !model.known)
    user_error("{}: kv_cache: where keys and values are made is not known for this family", recipe.file);
  Plan plan = make_plan(recipe, model.folder.graph, model.folder.checkpoint->tensors());
  check_gguf_tokenizer(plan, model.folder, recipe.output.gguf_pre_tokenizer);
  const c10::Device device = resolve_device(request.device);
  warn_limits(recipe.limits, device, plan.warnings);
  const DType compute = resolve_compute_dtype(request.compute_dtype, device, model.folder.graph.config.dtype);
  if (model.known) check_texts_exist(recipe);
  const Algorithms algorithms = make_algorithms(recipe);
  std::vector<std::string> warnings = model.warnings;
  warn_dequantised(model.folder, warnings);
  warnings.insert(warnings.end(), plan.warnings.begin(), plan.warnings.end());
  const EvaluationRows evaluated =
      read_evaluation_of(recipe, model, request.dry_run ? TextExtent::heads : TextExtent::whole, warnings);
  const at::Tensor& rows = evaluated.ids;
  MemoryBytes memory;
  std::optional<EvalMemory> eval_memory;
  const uint64_t kept = request.no_journal ? 0 : journal_bytes(plan, model.folder);
  plan_phases(
      [&] {
        memory = plan_weights_memory(recipe.limits, most_weights(plan), device, kept,
                                     std::max(finish_bytes(plan), dequantising_bytes(model.folder)));
      },
      [&] {
        if (!rows.defined()) return;
        const auto work = work_folder(request.memory.work, recipe.output.path.parent_path());
        eval_memory = plan_eval_memory(model.folder, &model.folder, rows, recipe.limits, device, work);
      });
  if (request.dry_run) {
    RateProbes probes({device, compute});
    const Estimate estimate =
        estimate_weights({recipe, plan, model.folder.graph, algorithms, probes, rows_of(rows)});
    print_dry_run(request, {.recipe = recipe,
                            .plan = plan,
                            .graph = model.folder.graph,
                            .estimate = &estimate,
                            .weights_memory = memory,
                            .evaluation = eval_memory ? &*eval_memory : nullptr,
                            .evaluated = {rows_of(rows), evaluated.read},
                            .warnings = warnings});
    return;
  }

  check_output_apart(recipe);
  RunReport report(recipe, plan, model.folder, device, compute);
  report.add_warnings(warnings);
  report.set_memory(memory);
  if (eval_memory) report.set_eval_memory(*eval_memory);
  Progress progress(request.quiet);
  OutputFolder output(recipe.output.path, request.overwrite);
  RunJournal journal(output, request);
  for (const std::string& warning : plan.output_warnings()) progress.line("warning: " + warning);
  for (const std::string& warning : warnings) progress.line("warning: " + warning);

  report.timed("journal", [&] {
    journal.begin(model.folder.graph, run_identity(recipe, model.folder, {}, rows, device, compute, {}));
  });
  for (const std::string& line : journal.news(solved_together(plan).size(), "linears")) progress.line(line);
  journal.guard([&] {
    ArtifactWriters writers =
        report.timed("open output", [&] { return open_writers(recipe, plan, model.folder, output.path()); });
    WrittenTensors written;
    report.timed("quantise", [&] {
      quantise(model, plan, algorithms, device, writers, report, written, journal, progress);
    });

    const auto open = [&](const std::filesystem::path& folder) {
      return model.known ? open_model_folder(folder) : open_model_folder(folder, model.folder.graph);
    };
    output.before_commit([&] { journal.note_written(output.path()); });
    finish_run({request, recipe, model.folder, rows, eval_memory, device, compute, {}}, open, writers,
               written, report, progress, output);
    journal.remove();
  });
}

}  // namespace lathe
