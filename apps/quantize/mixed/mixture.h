// `quantize sensitivity`, and what a recipe's budget makes of its measurements.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/quantize/artifact.h"
#include "apps/quantize/mixed/measure.h"
#include "apps/quantize/requests.h"
#include "recipes/recipe.h"

namespace lathe {

/// What a budget chose.
struct ChosenMixture {
  Recipe recipe;               // a plain one
  std::string yaml;            // the same, to be read, edited and run again
  std::string json;            // budget, frontier, uniform candidates, what each group takes and would lose
  nlohmann::json sensitivity;  // sensitivity_section() of what it was chosen by
  std::vector<std::string> warnings;
  double measuring_seconds = 0;  // 0: the measurements were there already
  /// Of a dry run before anything is measured, whose mixture only stands in for what will be chosen (its json
  /// is unmeasured_json(), and it has no yaml): plans the measuring. UserError where the limits leave no room
  /// for that or for what may be chosen. Refers to the request.
  PlanMeasuring to_measure = {};
  std::shared_ptr<const ModelFolder> model = {};  // likewise: the recipe's, for what follows in the plan

  /// chosen.yaml and budget.json, into the folder of each output.
  void write(const ArtifactWriters& writers) const;
};

/// Where measurements stand: beside the output where the recipe names no other place, so that a later run of
/// it finds them there.
std::filesystem::path sensitivity_place(const Recipe& recipe);

/// Measures the recipe's candidates, unless `sensitivity.file` holds what is needed, and chooses; the
/// frontier goes to stdout. A dry run measures nothing: it says what could be chosen. UserError for a recipe
/// with candidates and no budget, and as plan_choices(), measure_candidates(), part_of(), losses_for() and
/// BudgetChoice::pick().
ChosenMixture choose_mixture(const RunRequest& request, const Recipe& recipe);

/// Measures what each group loses under the recipe's candidates, or under its rules, and writes
/// sensitivity.json, .md and .html into the output folder. Replaces older ones with --overwrite only; what is
/// refused leaves no folder.
/// A dry run says on stdout what that takes.
void run_sensitivity(const SensitivityRequest& request);

}  // namespace lathe
