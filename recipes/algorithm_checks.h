// What the algorithms of a recipe say to it and to each other, before anything is computed.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "algorithms/algorithm.h"
#include "recipes/plan.h"
#include "recipes/recipe.h"

namespace lathe {

/// A recipe's algorithms, made of its options; null for a name that is not registered.
struct RecipeAlgorithms {
  std::vector<std::unique_ptr<Transform>> transforms;  // as Recipe::transforms
  std::vector<std::unique_ptr<Solver>> solvers;        // as Recipe::rules
};
RecipeAlgorithms recipe_algorithms(const Recipe& recipe);

/// Does a transform of the recipe fold scales, so that tensors that stay in floating point may change?
bool moves_scales(const Recipe& recipe);

/// The order of the blocks that a transform rotates inputs by (Transform::rotation()); 0: none does.
/// UserError where another transform stands beside it.
int64_t recipe_rotation(const Recipe& recipe, const RecipeAlgorithms& algorithms);

/// UserError where a solver is told to take offered ranges, and no transform offers any. Returns a warning
/// for each solver that takes none of those that are.
std::vector<std::string> check_range_offers(const Recipe& recipe, const RecipeAlgorithms& algorithms);

/// UserError where a solver compares two streams of activations, and the recipe calibrates on one.
void check_streams(const Recipe& recipe, const RecipeAlgorithms& algorithms);

/// UserError for a rule's target that decides about no linear: what it matches is ignored, or an earlier
/// rule's. Patterns that match nothing at all are refused before.
void check_words_decide(const Recipe& recipe, const Plan& plan);

}  // namespace lathe
