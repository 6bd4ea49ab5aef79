#include "apps/quantize/dry_run.h"

#include <fmt/format.h>

#include "apps/quantize/dataset.h"
#include "apps/quantize/memory.h"
#include "apps/quantize/mixed/unmeasured.h"
#include "lib/base/existing_output.h"
#include "lib/base/file.h"
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
  if (run.evaluated.read < 1)
    text += fmt::format("           about {} rows of {} tokens, estimated from {} of {}\n",
                        run.evaluated.rows.rows, run.evaluated.rows.ctx, describe_head(run.evaluated.read),
                        run.recipe.evaluate->text.string());
  if (run.estimate != nullptr) text += describe_estimate(*run.estimate);
  if (run.calibration != nullptr) {
    text += describe_dataset(*run.calibration);
    text += fmt::format(
        "wanted     {} tokens or more: 16 for each column of the widest Hessian{}\n", run.wanted_tokens,
        run.graph.config.experts ? ", an expert's of the tokens that it gets where all get as many" : "");
  }
  for (const std::string& warning : all_warnings(run)) text += fmt::format("warning    {}\n", warning);
  return text;
}

json dry_run_json(const DryRun& run) {
  json result = plan_json(run.plan, run.recipe, run.graph);
  result["schema"] = 1;
  result["calibration"] = nullptr;
  if (run.calibration != nullptr) {
    result["calibration"] = dataset_json(run.recipe.calibration, *run.calibration);
    result["calibration"]["tokens_wanted"] = run.wanted_tokens;
  }
  result["memory"] = memory_json(run);
  result["measuring"] = run.measuring != nullptr ? measuring_json(*run.measuring) : json();
  result["evaluation"] = nullptr;
  if (run.evaluation != nullptr) result["evaluation"] = bytes_json(run.evaluation->peak);
  if (run.evaluation != nullptr && run.evaluated.read < 1) {
    result["evaluation"]["rows"] = run.evaluated.rows.rows;
    result["evaluation"]["read"] = run.evaluated.read;
  }
  result["work"] = run.estimate != nullptr ? estimate_json(*run.estimate) : json();
  result["budget"] = run.budget ? *run.budget : json();
  result["warnings"] = all_warnings(run);
  return result;
}

namespace {

/// Nothing stands in the way of a plan, which writes nothing; of the run it may.
void warn_existing_output(const RunRequest& request, const Recipe& recipe,
                          std::vector<std::string>& warnings) {
  std::error_code ignored;
  const std::filesystem::path place = output_place(recipe.output.path);
  if (const auto reason = output_in_the_way(place, request.overwrite)) {
    warnings.push_back("the run would be refused: " + *reason);
  } else if (std::filesystem::exists(place, ignored)) {
    warnings.push_back(fmt::format("output {}: exists; the run replaces it once it is finished (--overwrite)",
                                   place.string()));
  }
}

}  // namespace

void print_dry_run(const RunRequest& request, const DryRun& planned) {
  DryRun run = planned;
  warn_existing_output(request, run.recipe, run.warnings);
  fmt::print("{}", request.json ? dry_run_json(run).dump(2, ' ', false, json::error_handler_t::replace) + "\n"
                                : describe_dry_run(run));
}

}  // namespace lathe
