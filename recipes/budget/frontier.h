// Which option to take for each group of linears so that the sum of losses is least within a number of bytes:
// the multiple-choice knapsack, exactly, and for all budgets at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace lathe {

/// What one option of a group costs: bytes as they stand in the file, and the loss that it is thought to
/// cause.
struct BudgetOption {
  uint64_t bytes = 0;
  double loss = 0;  // finite, of any unit; losses of groups add up
};

/// Every choice that no other one beats: for each of them, all that are no larger lose more.
class BudgetFrontier {
 public:
  /// groups[g][o]: option o of group g. At least one group, each with 1 to 255 options. Sums of losses are
  /// rounded as they are added in the order of the groups.
  explicit BudgetFrontier(const std::vector<std::vector<BudgetOption>>& groups);

  /// Ascending in bytes, strictly falling in loss.
  const std::vector<BudgetOption>& points() const { return points_; }
  /// The option that each group takes at a point.
  std::vector<size_t> choices(size_t point) const;
  /// The point of the least loss within so many bytes; nothing where the smallest is larger.
  std::optional<size_t> within(uint64_t bytes) const;
  /// The point of the fewest bytes that loses no more; nothing where the largest does.
  std::optional<size_t> reaching(double loss) const;

 private:
  /// How one point of a group's frontier was made: from which of the groups before it, by which option.
  struct Step {
    std::vector<uint32_t> before;
    std::vector<uint8_t> option;
  };

  void add(const std::vector<BudgetOption>& options);

  std::vector<BudgetOption> points_ = {{0, 0}};  // of the groups so far
  std::vector<Step> steps_;                      // as groups
};

}  // namespace lathe
