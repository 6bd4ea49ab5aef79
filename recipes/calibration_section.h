// The section `calibration:` of a recipe.
#pragma once

#include "recipes/recipe.h"
#include "recipes/yaml_reader.h"

namespace lathe {

/// Reads what the section says and leaves the rest at its defaults. UserError as YamlField's.
void read_calibration(const YamlField& field, Recipe::Calibration& calibration);

}  // namespace lathe
