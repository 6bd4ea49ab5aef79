// k-means of points in the plane.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace lathe {

/// To which of k clusters, 0 to k - 1, each point belongs: Lloyd's iterations from k-means++ seeds, the best
/// of ten starts by the sum of squared distances, as scikit-learn's KMeans(k, n_init=10). No cluster is
/// empty. The same for the same points: the seeds' generator is fixed. 1 <= k <= points.
std::vector<int> cluster_points(std::span<const std::array<double, 2>> points, int k);

}  // namespace lathe
