// Is a folder in safetensors what its plan says: tensors, configuration, side files?
#pragma once

#include <optional>
#include <string>

#include "apps/quantize/read_back.h"
#include "formats/targets/model_folder.h"
#include "formats/verify/finding.h"
#include "recipes/plan.h"

namespace lathe {

/// `output`: one of the plan's, in safetensors. `reference`: the floating-point model; null: not given, and
/// what was carried over from it isn't looked at.
Findings check_output(const ModelFolder& artefact, const Plan& plan, const OutputPlan& output,
                      const ModelGraph& graph, const ModelFolder* reference);

/// All checks of a folder that a run has just written. folds: had it transforms?
Findings check_written(const std::filesystem::path& folder, const Plan& plan, const OutputPlan& output,
                       const ModelFolder& model, const WrittenTensors& written, bool folds);

/// What the plan makes of config.json's quantization_config. outliers: that each linear keeps, by name.
nlohmann::json planned_quantization(const Plan& plan, const OutputPlan& output, const ModelGraph& graph,
                                    const std::map<std::string, int64_t>& outliers);

/// The output of a plan that a folder holds: the one whose quantization_config is its own, or nearest to it.
/// Null: none is in safetensors.
const OutputPlan* output_of(const ModelFolder& artefact, const Plan& plan, const ModelGraph& graph);

/// What an event of a linear's solver says that the recipe doesn't allow (verify.fallbacks); nothing where it
/// does, or the event is no fall-back.
std::optional<Finding> check_fallback(const Recipe& recipe, const std::string& linear,
                                      const std::string& event);

}  // namespace lathe
