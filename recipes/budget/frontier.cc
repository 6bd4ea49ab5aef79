// The multiple-choice knapsack (Kellerer, Pferschy, Pisinger, "Knapsack Problems", 2004, ch. 11): one option
// of each group, sum of bytes within a budget, least sum of losses. Dynamic programming over groups by lists
// of undominated states (Nemhauser and Ullmann, "Discrete dynamic programming and capital allocation", 1969):
//
//   F_g = the undominated of { (b + bytes_go, l + loss_go) : (b, l) in F_(g-1), o an option of g }
//
// which is exact for every budget: a state that is beaten stays beaten whatever is added to both, in floating
// point, too, for rounding is monotonous. Budgets aren't rounded to steps, as tables over bytes would have
// to.
//
// Cost: a list has at most as many states as there are different sums of bytes, (largest - smallest) /
// greatest common divisor of all differences + 1. That divisor is at least a few rows of the narrowest
// matrix, since shapes of a model are multiples of each other: 10^4 states for a 135M model, some 10^5 for
// one of 70B. Each costs 5 bytes a group, kept to find the choices again.
#include "recipes/budget/frontier.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "lib/base/error.h"

namespace lathe {

BudgetFrontier::BudgetFrontier(const std::vector<std::vector<BudgetOption>>& groups) {
  LATHE_ASSERT(!groups.empty(), "a budget over no group");
  steps_.reserve(groups.size());
  for (const auto& options : groups) add(options);
}

void BudgetFrontier::add(const std::vector<BudgetOption>& options) {
  LATHE_ASSERT(!options.empty() && options.size() <= std::numeric_limits<uint8_t>::max(),
               "a group of {} options", options.size());
  for (const BudgetOption& option : options)
    LATHE_ASSERT(std::isfinite(option.loss), "an option's loss is not finite");
  // One ascending list for each option, all of them merged; only what loses less than everything before
  // stays.
  std::vector<size_t> next(options.size(), 0);
  std::vector<BudgetOption> merged;
  Step step;
  const auto head = [&](size_t o) {
    const BudgetOption& before = points_[next[o]];
    return BudgetOption{before.bytes + options[o].bytes, before.loss + options[o].loss};
  };
  for (;;) {
    size_t least = options.size();
    BudgetOption found;
    for (size_t o = 0; o < options.size(); ++o) {
      if (next[o] == points_.size()) continue;
      const BudgetOption state = head(o);
      const bool smaller =
          state.bytes < found.bytes || (state.bytes == found.bytes && state.loss < found.loss);
      if (least != options.size() && !smaller) continue;
      least = o;
      found = state;
    }
    if (least == options.size()) break;
    if (merged.empty() || found.loss < merged.back().loss) {
      merged.push_back(found);
      step.before.push_back(static_cast<uint32_t>(next[least]));
      step.option.push_back(static_cast<uint8_t>(least));
    }
    ++next[least];
  }
  LATHE_ASSERT(merged.size() < std::numeric_limits<uint32_t>::max(), "a frontier of {} points",
               merged.size());
  points_ = std::move(merged);
  steps_.push_back(std::move(step));
}

std::vector<size_t> BudgetFrontier::choices(size_t point) const {
  LATHE_ASSERT(point < points_.size(), "point {} of a frontier of {}", point, points_.size());
  std::vector<size_t> taken(steps_.size());
  for (size_t g = steps_.size(); g-- > 0;) {
    taken[g] = steps_[g].option[point];
    point = steps_[g].before[point];
  }
  return taken;
}

std::optional<size_t> BudgetFrontier::within(uint64_t bytes) const {
  const auto beyond = std::ranges::upper_bound(points_, bytes, {}, &BudgetOption::bytes);
  if (beyond == points_.begin()) return std::nullopt;
  return static_cast<size_t>(beyond - points_.begin()) - 1;
}

std::optional<size_t> BudgetFrontier::reaching(double loss) const {
  const auto first = std::ranges::find_if(points_, [&](const BudgetOption& p) { return p.loss <= loss; });
  if (first == points_.end()) return std::nullopt;
  return static_cast<size_t>(first - points_.begin());
}

}  // namespace lathe
