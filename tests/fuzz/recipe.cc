// A recipe.
#include "recipes/recipe.h"

#include "tests/fuzz/fuzz.h"

void lathe::fuzz::read(std::string_view input) {
  static const RecipeVocabulary vocabulary = registered_vocabulary();
  parse_recipe(std::string(input), "recipe.yaml", {}, vocabulary).to_json();
}
