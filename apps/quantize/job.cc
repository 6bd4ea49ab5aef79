#include "apps/quantize/job.h"

#include "lib/base/error.h"

namespace lathe {
namespace {

template <class Entry>
auto make_algorithm(const std::vector<Entry>& table, const AlgorithmChoice& choice) {
  for (const Entry& entry : table) {
    if (entry.name == choice.name) return entry.make(choice.options);
  }
  internal_error("no algorithm '{}', though the recipe reader accepted it", choice.name);
}

}  // namespace

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
                     .kv_cache = plan.kv_cache,
                     .hand_over_weights = plan.rounds_weights(),
                     .describe_inputs = recipe.report.activations,
                     .storage = {}};
  for (const auto& transform : algorithms.transforms) job.transforms.push_back(transform.get());
  for (const auto& block : plan.blocks) {
    auto& tasks = job.tasks.emplace_back();
    for (const LinearPlan& linear : block) {
      tasks.push_back(linear.quantized ? LinearTask{algorithms.solvers[linear.rule].get(), linear.scheme,
                                                    recipe.rules[linear.rule].activations}
                                       : LinearTask{});
    }
  }
  return job;
}

}  // namespace lathe
