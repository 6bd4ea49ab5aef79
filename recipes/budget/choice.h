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

  /// The fewest bytes that are possible, and the least loss.
  Mixture least() const { return at(0); }
  Mixture most() const { return at(frontier_.points().size() - 1); }
  /// The mixture with the least predicted loss within the budget; of budgets of loss the smallest; exactly,
  /// as BudgetFrontier has it. UserError naming what is possible where none is within it.
  Mixture pick(const Budget& budget) const;
  /// UserError as pick() where nothing is within the budget; a budget of loss isn't looked at.
  void check(const Budget& budget) const;
  /// One candidate for all groups; nothing where a group can't have it.
  std::optional<Mixture> uniform(size_t candidate) const;
  /// Mixtures for people: of those on the frontier's convex hull, each the best of its size, `most` at even
  /// distances of bytes, its ends included; and `chosen`. Smallest first.
  std::vector<Mixture> some(size_t most, const Mixture& chosen) const;

 private:
  Mixture mixture(std::vector<size_t> choice) const;
  Mixture at(size_t point) const { return of_classes(frontier_.choices(point)); }
  /// Of each class's option.
  Mixture of_classes(const std::vector<size_t>& taken) const;
  /// Of groups, that a budget of size or bits allows; nothing for less than what is fixed.
  std::optional<uint64_t> room(const Budget& budget) const;
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
