// A recipe as people write it.
#pragma once

#include <string>

#include "recipes/recipe.h"

namespace lathe {

/// YAML of the whole recipe, every default filled in; reading it back gives the same run. `heading`: what the
/// comment at its head says, in lines.
std::string recipe_yaml(const Recipe& recipe, const std::string& heading);

}  // namespace lathe
