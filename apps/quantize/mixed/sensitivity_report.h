// What was measured, for people: in a run's report, and in one of its own.
#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <string>
#include <vector>

#include "apps/quantize/mixed/measure.h"
#include "apps/quantize/mixed/sensitivity_file.h"
#include "apps/quantize/requests.h"
#include "formats/targets/model_folder.h"
#include "recipes/budget/choice_plan.h"
#include "recipes/recipe.h"

namespace lathe {

/// For a terminal: rank correlations, and the groups that lose most under each candidate. `names`: of
/// candidates.
std::string describe_sensitivity(const SensitivityTable& table, const std::vector<std::string>& names);

/// `sensitivity` of report.json, as lib/report/report.schema.json has it, of a table whose groups are the
/// plan's and whose candidates are the recipe's.
nlohmann::json sensitivity_section(const SensitivityTable& table, const Recipe& recipe,
                                   const ModelGraph& graph, const ChoicePlan& plan);

/// sensitivity.md and sensitivity.html: what a run's report has of it, in a document of its own.
void write_sensitivity_report(const std::filesystem::path& folder, const RunRequest& request,
                              const Recipe& recipe, const ModelFolder& model, const Measured& measured,
                              nlohmann::json section, const std::vector<std::string>& warnings,
                              double seconds);

}  // namespace lathe
