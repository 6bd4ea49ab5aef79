// `sensitivity` beside rules: what each group loses by what its rule makes of it.
#pragma once

#include "apps/quantize/requests.h"
#include "recipes/recipe.h"

namespace lathe {

/// Measures before the run, without the recipe's transforms, and writes sensitivity.json where the recipe
/// says; what stands there already is kept where it is of this model and these rules. UserError where it
/// isn't, as plan_choices() and measure_candidates(), and for a recipe without calibration or a format that
/// rounds by itself.
void measure_rules(const RunRequest& request, const Recipe& recipe);

}  // namespace lathe
