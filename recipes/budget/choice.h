// Choosing: the frontier of all mixtures of a plan's candidates, and the one that a budget takes.
#pragma once

#include <string>
#include <vector>

#include "recipes/budget/choice_plan.h"
#include "recipes/recipe.h"

namespace lathe {

/// Losses in nats, as ChoicePlan::groups and their candidates.
using ChoiceLosses = std::vector<std::vector<double>>;

/// One mixture.
struct Mixture {
  std::vector<size_t> choice;  // an index into ChoiceGroup::candidates for each group
  uint64_t bytes = 0;          // of all tensors of the output
  double bits_per_weight = 0;  // of those that are chosen for
  double kl = 0;               // nats, the sum of its groups' losses
};

class BudgetChoice {
 public:
  /// Keeps a reference to the plan. InternalError for losses of another shape or that are not finite.
  BudgetChoice(const ChoicePlan& plan, const ChoiceLosses& losses);

  /// How many mixtures no other one beats, smallest first.
  size_t size() const { return frontier_.points().size(); }
  Mixture at(size_t point) const;
  /// The mixture with the least predicted loss within the budget; of budgets of loss the smallest. UserError
  /// naming what is possible where none is within it.
  size_t pick(const Budget& budget) const;
  /// One candidate for all groups; nothing where a group can't have it.
  std::optional<Mixture> uniform(size_t candidate) const;
  /// Points for people: at even distances of bytes, ends and `chosen` included.
  std::vector<size_t> some(size_t most, size_t chosen) const;

 private:
  Mixture mixture(std::vector<size_t> choice) const;
  /// What is chosen at once: a group, or all that are tied; and what each of them takes under each option.
  struct Class {
    std::vector<size_t> groups;
    std::vector<std::vector<size_t>> options;  // as BudgetOption, then as groups: index into its candidates
  };
  std::vector<std::vector<BudgetOption>> options_of(const ChoiceLosses& losses);

  const ChoicePlan& plan_;
  ChoiceLosses losses_;
  std::vector<Class> classes_;
  BudgetFrontier frontier_;
};

}  // namespace lathe
