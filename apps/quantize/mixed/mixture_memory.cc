#include "apps/quantize/mixed/mixture_memory.h"

#include <algorithm>

#include "apps/quantize/job.h"
#include "apps/quantize/run_memory.h"
#include "lib/base/error.h"
#include "lib/model/compute_dtype.h"
#include "lib/tensor/device.h"
#include "recipes/budget/choice.h"

namespace lathe {
namespace {

/// A run with the candidate wherever it can be. What is written of it takes memory of the run only where a
/// GGUF file's types are chosen.
struct UniformRun {
  Recipe recipe;
  Plan plan;
};

/// Groups that can't have the candidate take their first.
std::vector<size_t> everywhere(const ChoicePlan& plan, size_t candidate) {
  std::vector<size_t> choice;
  for (const ChoiceGroup& group : plan.groups) {
    const auto place = std::ranges::find(group.candidates, candidate);
    choice.push_back(place == group.candidates.end() ? 0
                                                     : static_cast<size_t>(place - group.candidates.begin()));
  }
  return choice;
}

UniformRun uniform_run(const Recipe& recipe, const ModelFolder& model, const ChoicePlan& plan,
                       size_t candidate) {
  const ModelGraph& graph = model.graph;
  UniformRun run;
  if (recipe.candidates[candidate].block) {
    run.recipe = chosen_recipe(recipe, graph, plan, everywhere(plan, candidate));
    run.plan = make_plan(run.recipe, graph, model.checkpoint->tensors());
  } else {
    run.recipe = uniform_recipe(recipe, plan, candidate);
    run.plan = plan_linears(run.recipe, graph);
  }
  return run;
}

}  // namespace

void check_mixture_memory(const RunRequest& request, const Recipe& recipe, const ModelFolder& model,
                          const ChoicePlan& plan, const RunText* known) {
  const c10::Device device = resolve_device(request.device);
  const DType compute = resolve_compute_dtype(request.compute_dtype, device, model.graph.config.dtype);
  const auto work = work_folder(request.memory.work, recipe.output.path.parent_path());
  std::optional<RunText> text;
  if (known) text = *known;
  for (size_t c = 0; c < recipe.candidates.size(); ++c) {
    if (recipe.candidates[c].left()) continue;  // nothing to run
    const auto [uniform, run] = uniform_run(recipe, model, plan, c);
    if (!text) text = read_run_text(uniform, run, model, TextExtent::whole);
    const Algorithms algorithms = make_algorithms(uniform);
    CalibrationJob job = make_job(uniform, run, model, algorithms, device, compute);
    try {
      plan_memory_of(request, uniform, run, model, *text, job, work);
    } catch (const UserError& refused) {
      user_error("once {} is chosen: {}", recipe.candidates[c].describe(), refused.what());
    }
  }
}

}  // namespace lathe
