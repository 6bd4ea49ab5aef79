// A transform that changed nothing in a whole model is a slip, not a result.
#pragma once

#include <string>
#include <vector>

#include "calib/driver/driver.h"
#include "recipes/recipe.h"

namespace lathe {

/// Counts the folds of a run while its blocks finish.
class FoldCensus {
 public:
  void note(const BlockOutcome& outcome);
  /// UserError for a transform of the recipe that made no fold at all, with the edges it looked at and why
  /// the first was left.
  void check(const Recipe& recipe) const;

 private:
  struct Count {
    int64_t edges = 0, applied = 0;
    std::string first_producer, first_note;
  };
  std::vector<Count> counts_;  // by the transform's place in the recipe
};

}  // namespace lathe
