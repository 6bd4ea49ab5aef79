// The multiple-choice knapsack in whole numbers: one option of each class, the sum of weights within a limit,
// the least sum of costs; exactly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace lathe {

struct KnapsackOption {
  int64_t weight = 0, cost = 0;
};

/// One step of a class from an option to the next heavier one on the lower convex hull of its options.
struct HullEdge {
  size_t cls = 0, from = 0, to = 0;  // indices of the class and of its options
  int64_t weight = 0, cost = 0;      // that the step adds, and saves; both above 0
};

class Knapsack {
 public:
  static constexpr size_t kMostStates = size_t{1} << 25;  // 5 bytes each

  /// classes[c][o]: option o of class c, 1 to 255 for each; none is negative, and sums of any choice stay
  /// below 2^62. most_states: how many a search may keep.
  explicit Knapsack(std::vector<std::vector<KnapsackOption>> classes, size_t most_states = kMostStates);

  /// The least cost within the limit, as one option for each class; nothing where no choice is within it.
  /// `known`: a choice within it; it is given back where nothing costs less. Throws Interrupted when
  /// cancelled; UserError where more states would have to be kept.
  std::optional<std::vector<size_t>> least_cost(int64_t limit,
                                                const std::vector<size_t>* known = nullptr) const;

  /// The options of the least weight, of several the cheapest: where hull_edges() begin.
  const std::vector<size_t>& lightest() const { return lightest_; }
  /// Of all classes, the one that saves most for its weight first. What they lead to one after the other are
  /// the choices that minimise cost + price x weight for some price.
  const std::vector<HullEdge>& hull_edges() const { return edges_; }

  KnapsackOption sum(const std::vector<size_t>& choice) const;

 private:
  std::vector<std::vector<KnapsackOption>> classes_;
  std::vector<size_t> lightest_;
  std::vector<HullEdge> edges_;
  size_t most_states_;
  int64_t weight_unit_ = 1, cost_unit_ = 1;  // which divides all differences within classes
};

}  // namespace lathe
