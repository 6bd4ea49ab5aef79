// `quantize sensitivity`, and what a recipe's budget makes of its measurements.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "apps/quantize/artifact.h"
#include "apps/quantize/requests.h"
#include "recipes/recipe.h"

namespace lathe {

/// What a budget chose.
struct ChosenMixture {
  Recipe recipe;     // a plain one
  std::string yaml;  // the same, to be read, edited and run again
  std::string json;  // budget, frontier, uniform candidates, and what each group takes

  /// chosen.yaml and budget.json, into the folder of each output.
  void write(const ArtifactWriters& writers) const;
};

/// Where measurements stand: beside the output where the recipe names no other place, so that a later run of
/// it finds them there.
std::filesystem::path sensitivity_place(const Recipe& recipe);
/// Before anything is measured, which takes long. UserError where it can't be made.
void make_folder(const std::filesystem::path& folder);

/// Measures the recipe's candidates, unless `sensitivity.file` holds what is needed, and chooses; the
/// frontier goes to stdout. Nothing where the request is a dry run and nothing has been measured: then what
/// could be chosen is on stdout. UserError for a recipe with candidates and no budget, and as plan_choices(),
/// measure_candidates(), losses_for() and BudgetChoice::pick().
std::optional<ChosenMixture> choose_mixture(const RunRequest& request, const Recipe& recipe);

/// Measures, and writes sensitivity.json into the output folder. Replaces an older one with --overwrite only.
void run_sensitivity(const SensitivityRequest& request);

}  // namespace lathe
