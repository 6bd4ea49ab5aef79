// `sensitivity` beside rules: what each group loses by what its rule makes of it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/quantize/mixed/measure.h"
#include "apps/quantize/requests.h"
#include "recipes/recipe.h"

namespace lathe {

struct RulesMeasured {
  nlohmann::json section = {};  // sensitivity_section(); null: a dry run before anything is measured
  double seconds = 0;           // 0: it was there already
  std::vector<std::string> warnings;
  /// Of a dry run before it is measured: plans that. UserError where the limits leave no room. Refers to the
  /// request.
  PlanMeasuring to_measure = {};
};

/// Measures before the run and writes sensitivity.json where the recipe says; what stands there already is
/// kept where it is of this model and these rules. A dry run measures nothing. UserError where what stands
/// there is of others, as ruled_groups() and measure_candidates(), and for a recipe without calibration.
RulesMeasured measure_rules(const RunRequest& request, const Recipe& recipe);

}  // namespace lathe
