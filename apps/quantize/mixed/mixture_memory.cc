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
    const Recipe uniform = chosen_recipe(recipe, model.graph, plan, everywhere(plan, c));
    const Plan run = make_plan(uniform, model.graph, model.checkpoint->tensors());
    if (!text) text = read_run_text(uniform, run, model);
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
