#include "apps/quantize/dry_run.h"

#include <fmt/format.h>

#include "apps/quantize/dataset.h"
#include "apps/quantize/memory.h"
#include "apps/quantize/mixed/unmeasured.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

using nlohmann::json;

json memory_json(const DryRun& run) {
  if (run.estimate == nullptr) return nullptr;
  if (run.memory == nullptr) return bytes_json(run.weights_memory);
  json memory = bytes_json(run.memory->peak);
  memory["parts"] = json::array();
  for (const auto& [name, bytes] : run.memory->parts)
    memory["parts"].push_back({{"name", name}, {"bytes", bytes}});
  memory["samples_together"] = run.memory->storage.micro_batch;
  return memory;
}

std::vector<std::string> all_warnings(const DryRun& run) {
  std::vector<std::string> warnings = run.plan.output_warnings();
  warnings.insert(warnings.end(), run.warnings.begin(), run.warnings.end());
  return warnings;
}

}  // namespace

std::string describe_dry_run(const DryRun& run) {
  std::string text = describe_plan(run.plan, run.recipe, run.graph);
  if (run.measuring != nullptr) text += describe_memory(run.measuring->memory, "measuring");
  if (run.memory != nullptr) {
    text += describe_memory(*run.memory);
  } else if (run.estimate != nullptr) {
    text += fmt::format("memory     at most {} while weights are quantised\n",
                        human_bytes(run.weights_memory.ram));
    if (run.weights_memory.disk > 0)
      text += fmt::format("           {:>9}  journal on disk, for --resume\n",
                          human_bytes(run.weights_memory.disk));
  }
  if (run.evaluation != nullptr) text += describe_eval_memory(*run.evaluation);
  if (run.estimate != nullptr) text += describe_estimate(*run.estimate);
  if (run.calibration != nullptr) text += describe_dataset(*run.calibration);
  for (const std::string& warning : all_warnings(run)) text += fmt::format("warning    {}\n", warning);
  return text;
}

json dry_run_json(const DryRun& run) {
  json result = plan_json(run.plan, run.recipe, run.graph);
  result["schema"] = 1;
  result["calibration"] = nullptr;
  if (run.calibration != nullptr)
    result["calibration"] = dataset_json(run.recipe.calibration, *run.calibration);
  result["memory"] = memory_json(run);
  result["measuring"] = run.measuring != nullptr ? measuring_json(*run.measuring) : json();
  result["evaluation"] = nullptr;
  if (run.evaluation != nullptr) result["evaluation"] = bytes_json(run.evaluation->peak);
  result["work"] = run.estimate != nullptr ? estimate_json(*run.estimate) : json();
  result["budget"] = run.budget ? *run.budget : json();
  result["warnings"] = all_warnings(run);
  return result;
}

void print_dry_run(const RunRequest& request, const DryRun& run) {
  fmt::print("{}", request.json ? dry_run_json(run).dump(2, ' ', false, json::error_handler_t::replace) + "\n"
                                : describe_dry_run(run));
}

}  // namespace lathe
