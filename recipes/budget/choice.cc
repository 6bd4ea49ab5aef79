#include "recipes/budget/choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "lib/base/error.h"
#include "lib/base/strings.h"

namespace lathe {

BudgetChoice::BudgetChoice(const ChoicePlan& plan, const ChoiceLosses& losses)
    : plan_(plan), losses_(losses), frontier_(options_of(losses)) {}

std::vector<std::vector<BudgetOption>> BudgetChoice::options_of(const ChoiceLosses& losses) {
  LATHE_ASSERT(losses.size() == plan_.groups.size(), "{} groups, losses of {}", plan_.groups.size(),
               losses.size());
  std::map<std::string, size_t> tied;
  for (size_t g = 0; g < plan_.groups.size(); ++g) {
    const ChoiceGroup& group = plan_.groups[g];
    LATHE_ASSERT(losses[g].size() == group.candidates.size(), "{}: {} candidates, losses of {}", group.name,
                 group.candidates.size(), losses[g].size());
    const auto known = group.tied.empty() ? tied.end() : tied.find(group.tied);
    const size_t place = known != tied.end() ? known->second : classes_.size();
    if (known == tied.end()) classes_.emplace_back();
    if (!group.tied.empty()) tied.emplace(group.tied, place);
    classes_[place].groups.push_back(g);
  }
  std::vector<std::vector<BudgetOption>> all;
  for (Class& one : classes_) {
    auto& options = all.emplace_back();
    for (const size_t candidate : plan_.groups[one.groups.front()].candidates) {
      BudgetOption sum;
      std::vector<size_t> taken;
      for (const size_t g : one.groups) {
        const auto& candidates = plan_.groups[g].candidates;
        const auto place = std::ranges::find(candidates, candidate);
        if (place == candidates.end()) break;
        const auto k = static_cast<size_t>(place - candidates.begin());
        sum.bytes += plan_.groups[g].bytes[k];
        sum.loss += losses[g][k];
        taken.push_back(k);
      }
      if (taken.size() < one.groups.size()) continue;
      options.push_back(sum);
      one.options.push_back(std::move(taken));
    }
    LATHE_ASSERT(!options.empty(), "{}: no candidate for all groups that are tied",
                 plan_.groups[one.groups[0]].name);
  }
  return all;
}

Mixture BudgetChoice::mixture(std::vector<size_t> choice) const {
  Mixture mixture;
  const uint64_t bytes = plan_.bytes(choice);
  mixture.bytes = plan_.fixed_bytes + bytes;
  mixture.bits_per_weight = plan_.bits_per_weight(bytes);
  for (size_t g = 0; g < choice.size(); ++g) mixture.kl += losses_[g][choice[g]];
  mixture.choice = std::move(choice);
  return mixture;
}

Mixture BudgetChoice::of_classes(const std::vector<size_t>& taken) const {
  std::vector<size_t> choice(plan_.groups.size());
  for (size_t c = 0; c < classes_.size(); ++c) {
    for (size_t k = 0; k < classes_[c].groups.size(); ++k)
      choice[classes_[c].groups[k]] = classes_[c].options[taken[c]][k];
  }
  return mixture(std::move(choice));
}

std::optional<uint64_t> BudgetChoice::room(const Budget& budget) const {
  if (budget.bits_per_weight) return static_cast<uint64_t>(*budget.bits_per_weight * plan_.weights() / 8);
  if (*budget.size < plan_.fixed_bytes) return std::nullopt;
  return *budget.size - plan_.fixed_bytes;
}

void BudgetChoice::check(const Budget& budget) const {
  if (budget.kl) return;
  const Mixture small = least();
  const auto bytes = room(budget);
  if (bytes && small.bytes - plan_.fixed_bytes <= *bytes) return;
  if (budget.size) {
    user_error(
        "{}: budget.size: {} ({} bytes) can't be kept: the least possible with these candidates is {} ({} "
        "bytes), of which {} are tensors that no candidate is for",
        budget.where, human_bytes(*budget.size), *budget.size, human_bytes(small.bytes), small.bytes,
        human_bytes(plan_.fixed_bytes));
  }
  user_error(
      "{}: budget.bits_per_weight: {:g} can't be kept: the least possible with these candidates is {:.4f}, "
      "scales and zero points counted",
      budget.where, *budget.bits_per_weight, small.bits_per_weight);
}

Mixture BudgetChoice::pick(const Budget& budget) const {
  check(budget);
  if (!budget.kl) return of_classes(*frontier_.within(*room(budget)));
  const auto taken = frontier_.reaching(*budget.kl);
  if (taken) return of_classes(*taken);
  const Mixture best = most();
  user_error(
      "{}: budget.kl: {:g} nats can't be kept: the least that these candidates lose is {:.4g} (at {:.3f} "
      "bits/weight, {}), as predicted; add finer candidates",
      budget.where, *budget.kl, best.kl, best.bits_per_weight, human_bytes(best.bytes));
}

std::optional<Mixture> BudgetChoice::uniform(size_t candidate) const {
  std::vector<size_t> choice;
  for (const ChoiceGroup& group : plan_.groups) {
    const auto place = std::ranges::find(group.candidates, candidate);
    if (place == group.candidates.end()) return std::nullopt;
    choice.push_back(static_cast<size_t>(place - group.candidates.begin()));
  }
  return mixture(std::move(choice));
}

std::vector<Mixture> BudgetChoice::some(size_t most, const Mixture& chosen) const {
  const auto& points = frontier_.points();
  const double low = static_cast<double>(points.front().bytes);
  const double step =
      (static_cast<double>(points.back().bytes) - low) / static_cast<double>(std::max<size_t>(most, 2) - 1);
  std::set<size_t> wanted = {points.size() - 1};
  for (size_t i = 0; i + 1 < most; ++i) {
    const auto bytes = static_cast<uint64_t>(low + step * static_cast<double>(i)) + 1;
    const auto beyond = std::ranges::upper_bound(points, bytes, {}, &BudgetOption::bytes);
    wanted.insert(static_cast<size_t>(beyond - points.begin()) - 1);
  }
  std::map<uint64_t, Mixture> by_bytes;
  for (const size_t point : wanted) {
    Mixture mixture = at(point);
    by_bytes.emplace(mixture.bytes, std::move(mixture));
  }
  by_bytes.insert_or_assign(chosen.bytes, chosen);
  std::vector<Mixture> found;
  for (auto& [bytes, mixture] : by_bytes) found.push_back(std::move(mixture));
  return found;
}

}  // namespace lathe
