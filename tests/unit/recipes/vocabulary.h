// What recipes in these tests may name: every type of option, whatever is registered today.
#pragma once

#include "recipes/recipe.h"

namespace lathe {

inline RecipeVocabulary test_vocabulary() {
  const std::vector<OptionSpec> awq = {
      {"grid", int64_t{20}, "steps", 1, 100, {}},
      {"clip", true, "clip, too", 0, 0, {}},
      {"clip_steps", int64_t{20}, "of clipping", 1, 100, {}, {"clip", "true"}},
      {"shrink", 0.5, "how far", 0, 1, {}},
      {"offset", 0.0, "any number", 0, 0, {}},
      {"norm", std::string("l2"), "distance", 0, 0, {"l1", "l2"}},
      {"delta", 1.0, "where the norm bends", 0, 10, {}, {"norm", "l1"}},
  };
  return {{{"awq", awq}, {"smooth", {{"alpha", 0.5, "how much moves", 0, 1, {}}}}},
          {{"rtn", {}},
           {"toy",
            {{"seed", int64_t{0}, "any integer", 0, 0, {}},
             {"alpha", 0.5, "a number or a word", 0, 1, {"auto"}},
             {"steps", int64_t{20}, "of the search", 1, 100, {}, {"alpha", "auto"}}}}},
          {"compressed-tensors", "gguf"}};
}

}  // namespace lathe
