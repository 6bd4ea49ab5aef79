// Which option to take for each group of linears so that the sum of losses is least within a number of bytes,
// or the bytes within a loss: the multiple-choice knapsack, exactly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "recipes/budget/knapsack.h"

namespace lathe {

/// What one option of a group costs: bytes as they stand in the file, and the loss that it is thought to
/// cause.
struct BudgetOption {
  uint64_t bytes = 0;
  double loss = 0;  // finite, of any unit; losses of groups add up
};

/// The choices that no other one beats: for each of them, all that are no larger lose more. There may be
/// billions of them. within() and reaching() find the one that a budget takes among all; points() are those
/// on their lower convex hull, where for some price of a byte nothing is better.
class BudgetFrontier {
 public:
  /// groups[g][o]: option o of group g. At least one group, each with 1 to 255 options; InternalError for a
  /// loss, or a sum of the largest ones, that isn't finite. Sums are exact to one part in 2^61 of that sum.
  /// most_states: as of a Knapsack.
  explicit BudgetFrontier(const std::vector<std::vector<BudgetOption>>& groups,
                          size_t most_states = Knapsack::kMostStates);

  /// Ascending in bytes, strictly falling in loss. The first has the fewest bytes that are possible, the last
  /// the least loss.
  const std::vector<BudgetOption>& points() const { return points_; }
  /// The option that each group takes at a point.
  std::vector<size_t> choices(size_t point) const;
  /// The choice of the least loss within so many bytes, of several the smallest; nothing where none is.
  /// Interrupted when cancelled; UserError as Knapsack::least_cost().
  std::optional<std::vector<size_t>> within(uint64_t bytes) const;
  /// The choice of the fewest bytes that loses no more, but for rounding (a part in 10^12), of several the
  /// one that loses least; nothing where none does.
  std::optional<std::vector<size_t>> reaching(double loss) const;

 private:
  double scale_ = 1;  // losses are multiples of 1 / scale_, a power of two
  uint64_t least_bytes_ = 0;
  int64_t least_loss_ = 0;       // as a multiple
  Knapsack by_bytes_, by_loss_;  // what is limited; beyond these two
  std::vector<BudgetOption> points_;
};

}  // namespace lathe
