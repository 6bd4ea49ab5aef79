#include "recipes/budget/ruled_groups.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/error.h"
#include "recipes/budget/choice_groups.h"

namespace lathe {
namespace {

/// Of one kind of candidate after the other, those that were met before by their place.
class Candidates {
 public:
  Candidates(Recipe& recipe, ChoicePlan& plan) : recipe_(recipe), plan_(plan) {}

  void give(ChoiceGroup group, const Candidate& candidate, const Scheme& scheme) {
    const auto same = [&](const Candidate& other) {
      return candidate_json(other) == candidate_json(candidate);
    };
    const auto known = std::ranges::find_if(recipe_.candidates, same);
    group.candidates = {static_cast<size_t>(known - recipe_.candidates.begin())};
    plan_.groups.push_back(std::move(group));
    if (known != recipe_.candidates.end()) return;
    recipe_.candidates.push_back(candidate);
    plan_.schemes.push_back(scheme);
  }

 private:
  Recipe& recipe_;
  ChoicePlan& plan_;
};

}  // namespace

RuledGroups ruled_groups(const Recipe& recipe, const ModelGraph& graph,
                         const std::map<std::string, TensorInfo>& tensors) {
  const Plan rules = make_plan(recipe, graph, tensors);
  const OutputPlan& output = rules.outputs.front();
  RuledGroups made{recipe, {}, {}};
  made.recipe.rules.clear();
  made.recipe.output.formats = {output.target->name};
  made.plan.scale_dtype = rules.scale_dtype;
  Candidates candidates(made.recipe, made.plan);
  const auto by_rule = [&](ChoiceGroup group) {
    const LinearPlan& linear = rules.part(static_cast<size_t>(group.block))[group.linears.front()];
    candidates.give(std::move(group), {.rule = recipe.rules[linear.rule]}, linear.scheme);
  };
  if (output.gguf) {
    for (GgufGroup& one : gguf_groups(rules, graph)) {
      const GgmlType type = one.tensor->type;
      if (one.tensor->exact) {
        by_rule(std::move(one.group));
      } else if (traits(type).length > 1) {
        Candidate candidate{.rule = {}, .block = type};
        candidate.rule.where = recipe.file;
        candidates.give(std::move(one.group), candidate, Scheme::as_they_are());
      }
    }
  } else {
    for (ChoiceGroup& group : stacked_groups(rules, graph)) by_rule(std::move(group));
  }
  if (made.plan.groups.empty())
    user_error("{}: nothing is rounded in format {}, so there is nothing to measure", recipe.file,
               output.target->name);
  if (output.gguf ? rules.outputs.size() > 1 : rules.rounds_weights())
    made.warnings.push_back(
        fmt::format("sensitivity: measured as format {} has the weights; other formats round them otherwise",
                    output.target->name));
  return made;
}

}  // namespace lathe
