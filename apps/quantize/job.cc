#include "apps/quantize/job.h"

#include <algorithm>

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

/// Of a weight, in the blocks that GgufArtifact::round_ahead() keeps of a block's linears; at most.
double format_bits(const Plan& plan) {
  double sum = 0;
  for (const OutputPlan& output : plan.outputs) {
    double largest = 0;
    for (const GgufOutputTensor& tensor :
         output.gguf ? output.gguf->tensors : std::vector<GgufOutputTensor>{})
      if (!tensor.exact && traits(tensor.type).length > 1 && !tensor.rule.linear.empty())
        largest = std::max(largest, bits_per_weight(tensor.type));
    sum += largest;
  }
  return sum;
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
                     .format_bits = format_bits(plan),
                     .storage = {}};
  for (const auto& transform : algorithms.transforms) {
    if (transform->rotation() == 0) job.transforms.push_back(transform.get());  // else schemes say it
  }
  for (size_t part = 0; part < plan.parts(); ++part) {
    auto& tasks = job.tasks.emplace_back();
    for (const LinearPlan& linear : plan.part(part)) {
      tasks.push_back(linear.quantized ? LinearTask{algorithms.solvers[linear.rule].get(), linear.scheme,
                                                    recipe.rules[linear.rule].activations}
                                       : LinearTask{});
    }
  }
  return job;
}

}  // namespace lathe
