#include "lib/numeric/point_clusters.h"

#include <algorithm>
#include <limits>
#include <random>

#include "lib/base/error.h"

namespace lathe {
namespace {

using Point = std::array<double, 2>;

constexpr int kStarts = 10, kIterations = 300;

double squared_distance(const Point& a, const Point& b) {
  return (a[0] - b[0]) * (a[0] - b[0]) + (a[1] - b[1]) * (a[1] - b[1]);
}

struct Clusters {
  std::vector<Point> centres;
  std::vector<int> of;            // by point
  std::vector<double> distances;  // squared, to that centre
  double inertia = 0;
};

/// A number from 0 up to 1, the same with every standard library.
double uniform(std::mt19937_64& generator) { return static_cast<double>(generator() >> 11) * 0x1p-53; }

/// Each next centre is a point, drawn by its squared distance to the nearest one so far.
std::vector<Point> seeds(std::span<const Point> points, size_t k, std::mt19937_64& generator) {
  std::vector<Point> centres = {points[generator() % points.size()]};
  std::vector<double> distances(points.size(), std::numeric_limits<double>::infinity());
  while (centres.size() < k) {
    double sum = 0;
    for (size_t i = 0; i < points.size(); ++i)
      sum += distances[i] = std::min(distances[i], squared_distance(points[i], centres.back()));
    double left = uniform(generator) * sum;
    size_t chosen = points.size() - 1;
    for (size_t i = 0; i < points.size(); ++i) {
      if ((left -= distances[i]) >= 0) continue;
      chosen = i;
      break;
    }
    centres.push_back(points[chosen]);
  }
  return centres;
}

void assign(std::span<const Point> points, Clusters& clusters) {
  clusters.inertia = 0;
  for (size_t i = 0; i < points.size(); ++i) {
    clusters.distances[i] = std::numeric_limits<double>::infinity();
    for (size_t c = 0; c < clusters.centres.size(); ++c) {
      const double distance = squared_distance(points[i], clusters.centres[c]);
      if (distance >= clusters.distances[i]) continue;
      clusters.distances[i] = distance;
      clusters.of[i] = static_cast<int>(c);
    }
    clusters.inertia += clusters.distances[i];
  }
}

/// An empty cluster takes the point that is farthest from its centre, of a cluster that has others.
void fill_empty(Clusters& clusters) {
  std::vector<size_t> sizes(clusters.centres.size());
  for (const int c : clusters.of) ++sizes[static_cast<size_t>(c)];
  for (size_t empty = 0; empty < sizes.size(); ++empty) {
    if (sizes[empty] > 0) continue;
    size_t farthest = clusters.of.size();
    for (size_t i = 0; i < clusters.of.size(); ++i) {
      if (sizes[static_cast<size_t>(clusters.of[i])] < 2) continue;
      if (farthest == clusters.of.size() || clusters.distances[i] > clusters.distances[farthest])
        farthest = i;
    }
    --sizes[static_cast<size_t>(clusters.of[farthest])];
    ++sizes[empty];
    clusters.of[farthest] = static_cast<int>(empty);
    clusters.distances[farthest] = 0;
  }
}

std::vector<Point> means(std::span<const Point> points, const Clusters& clusters) {
  std::vector<Point> sums(clusters.centres.size(), Point{});
  std::vector<double> counts(sums.size());
  for (size_t i = 0; i < points.size(); ++i) {
    const auto c = static_cast<size_t>(clusters.of[i]);
    sums[c][0] += points[i][0];
    sums[c][1] += points[i][1];
    counts[c] += 1;
  }
  for (size_t c = 0; c < sums.size(); ++c) sums[c] = {sums[c][0] / counts[c], sums[c][1] / counts[c]};
  return sums;
}

Clusters run(std::span<const Point> points, size_t k, std::mt19937_64& generator) {
  Clusters clusters{seeds(points, k, generator), std::vector<int>(points.size()),
                    std::vector<double>(points.size()), 0};
  for (int i = 0; i < kIterations; ++i) {
    assign(points, clusters);
    fill_empty(clusters);
    std::vector<Point> next = means(points, clusters);
    if (next == clusters.centres) break;
    clusters.centres = std::move(next);
  }
  return clusters;
}

}  // namespace

std::vector<int> cluster_points(std::span<const Point> points, int k) {
  const auto count = static_cast<size_t>(k);
  LATHE_ASSERT(k >= 1 && count <= points.size(), "{} clusters of {} points", k, points.size());
  std::mt19937_64 generator(0);
  Clusters best = run(points, count, generator);
  for (int start = 1; start < kStarts; ++start) {
    Clusters other = run(points, count, generator);
    if (other.inertia < best.inertia) best = std::move(other);
  }
  return best.of;
}

}  // namespace lathe
