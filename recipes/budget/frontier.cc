#include "recipes/budget/frontier.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "lib/base/error.h"

namespace lathe {
namespace {

/// Sums of losses, as whole numbers, stay below 2 to that.
constexpr int kLossBits = 61;
constexpr double kRounding = 1e-12;

using Groups = std::vector<std::vector<BudgetOption>>;

/// The power of two that makes whole numbers of losses, such that any sum of them fits.
double loss_scale(const Groups& groups) {
  double most = 0;
  for (const auto& options : groups) {
    double largest = 0;
    for (const BudgetOption& option : options) largest = std::max(largest, std::abs(option.loss));
    most += largest;
    for (const BudgetOption& option : options)
      LATHE_ASSERT(std::isfinite(option.loss), "an option's loss is not finite");
  }
  LATHE_ASSERT(std::isfinite(most), "losses add up to infinity");
  // Twice that: a loss is counted from the group's least one, which may be negative.
  return most > 0 ? std::ldexp(1.0, std::min(kLossBits - 2 - std::ilogb(most), 1000)) : 1;
}

int64_t whole(double loss, double scale) { return std::llrint(loss * scale); }

/// A group's least bytes, and its least loss as a whole number.
std::pair<uint64_t, int64_t> least_of(const std::vector<BudgetOption>& options, double scale) {
  LATHE_ASSERT(!options.empty(), "a group without options");
  return {std::ranges::min(options, {}, &BudgetOption::bytes).bytes,
          whole(std::ranges::min(options, {}, &BudgetOption::loss).loss, scale)};
}

/// What each group's options take beyond its least; the loss is the cost, or else the weight.
std::vector<std::vector<KnapsackOption>> classes_of(const Groups& groups, double scale, bool loss_is_cost) {
  std::vector<std::vector<KnapsackOption>> classes;
  for (const auto& options : groups) {
    const auto [bytes, loss] = least_of(options, scale);
    auto& row = classes.emplace_back();
    for (const BudgetOption& option : options) {
      const auto weight = static_cast<int64_t>(option.bytes - bytes);
      const int64_t cost = whole(option.loss, scale) - loss;
      row.push_back(loss_is_cost ? KnapsackOption{weight, cost} : KnapsackOption{cost, weight});
    }
  }
  return classes;
}

}  // namespace

BudgetFrontier::BudgetFrontier(const std::vector<std::vector<BudgetOption>>& groups, size_t most_states)
    : scale_(loss_scale(groups)),
      by_bytes_(classes_of(groups, scale_, true), most_states),
      by_loss_(classes_of(groups, scale_, false), most_states) {
  for (const auto& options : groups) {
    const auto [bytes, loss] = least_of(options, scale_);
    least_bytes_ += bytes;
    least_loss_ += loss;
  }
  KnapsackOption at = by_bytes_.sum(by_bytes_.lightest());
  const auto add = [&] {
    points_.push_back({least_bytes_ + static_cast<uint64_t>(at.weight),
                       static_cast<double>(least_loss_ + at.cost) / scale_});
  };
  add();
  for (const HullEdge& edge : by_bytes_.hull_edges()) {
    at.weight += edge.weight;
    at.cost -= edge.cost;
    add();
  }
}

std::vector<size_t> BudgetFrontier::choices(size_t point) const {
  LATHE_ASSERT(point < points_.size(), "point {} of a frontier of {}", point, points_.size());
  std::vector<size_t> taken = by_bytes_.lightest();
  for (size_t e = 0; e < point; ++e) taken[by_bytes_.hull_edges()[e].cls] = by_bytes_.hull_edges()[e].to;
  return taken;
}

std::optional<std::vector<size_t>> BudgetFrontier::within(uint64_t bytes) const {
  if (bytes < least_bytes_) return std::nullopt;
  const uint64_t room = std::min(bytes - least_bytes_, points_.back().bytes - least_bytes_);
  const std::vector<size_t> best = *by_bytes_.least_cost(static_cast<int64_t>(room));
  return by_loss_.least_cost(by_loss_.sum(best).weight, &best);
}

std::optional<std::vector<size_t>> BudgetFrontier::reaching(double loss) const {
  const double wanted = (loss + std::abs(loss) * kRounding) * scale_;
  const double most = std::ldexp(1.0, kLossBits);  // of any choice
  const int64_t limit = static_cast<int64_t>(std::floor(std::clamp(wanted, -most, most))) - least_loss_;
  const auto best = by_loss_.least_cost(limit);
  if (!best) return std::nullopt;
  return by_bytes_.least_cost(by_bytes_.sum(*best).weight, &*best);
}

}  // namespace lathe
