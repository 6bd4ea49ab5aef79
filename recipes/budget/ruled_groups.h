// What a recipe's rules make of a model, as candidates of which each group has one: for whoever measures what
// that loses.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "recipes/budget/choice_plan.h"

namespace lathe {

struct RuledGroups {
  Recipe recipe;    // the same with `candidates` in place of rules, each once, and one output format
  ChoicePlan plan;  // groups that are rounded, each with one candidate; nothing is weighed
  std::vector<std::string> warnings;
};

/// From headers alone, of the recipe's first checkpoint format: groups as plan_choices() has them. Of a GGUF
/// file the candidate is the tensor's type, or, where the solver's codes go in as they are, the rule; what
/// the file holds in floating point is no group. UserError as make_plan(), and where nothing is rounded.
RuledGroups ruled_groups(const Recipe& recipe, const ModelGraph& graph,
                         const std::map<std::string, TensorInfo>& tensors);

}  // namespace lathe
