// k-means of weighted numbers, solved exactly.
#pragma once

#include <span>
#include <vector>

namespace lathe {

/// Numbers that are near each other, taken together.
struct WeightedPoint {
  double value = 0, weight = 0;  // their weighted mean and the sum of their weights, > 0
};

/// The k numbers c with the least sum of weight * (value - nearest c)^2, ascending: by dynamic programming
/// over the points in order (Wang and Song 2011, "Ckmeans.1d.dp"), each row of the table by halves, as the
/// best cut moves in one direction (O(k n log n)). points: ascending, one at least. Fewer points than k: the
/// last one again and again.
std::vector<double> weighted_kmeans(std::span<const WeightedPoint> points, int k);

}  // namespace lathe
