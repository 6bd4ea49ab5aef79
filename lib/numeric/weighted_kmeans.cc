#include "lib/numeric/weighted_kmeans.h"

#include <algorithm>
#include <limits>

#include "lib/base/error.h"

namespace lathe {
namespace {

class Table {
 public:
  explicit Table(std::span<const WeightedPoint> points) : count_(points.size()) {
    sums_.push_back({});
    // From the middle of all: sums of squares keep their digits.
    const double origin = (points.front().value + points.back().value) / 2;
    for (const WeightedPoint& point : points) {
      const double x = point.value - origin;
      Sums next = sums_.back();
      next.weight += point.weight;
      next.first += point.weight * x;
      next.second += point.weight * x * x;
      sums_.push_back(next);
    }
    origin_ = origin;
  }

  std::vector<double> solve(size_t k) {
    best_.assign(1, std::vector<double>(count_ + 1, std::numeric_limits<double>::infinity()));
    best_[0][0] = 0;
    cuts_.assign(1, {});
    for (size_t cluster = 1; cluster <= k; ++cluster) {
      best_.emplace_back(count_ + 1, std::numeric_limits<double>::infinity());
      cuts_.emplace_back(count_ + 1, 0);
      fill(cluster, cluster, count_, cluster - 1, count_ - 1);
    }
    std::vector<double> centres(k);
    size_t end = count_;
    for (size_t cluster = k; cluster > 0; --cluster) {
      const size_t begin = cuts_[cluster][end];
      centres[cluster - 1] = mean(begin, end);
      end = begin;
    }
    return centres;
  }

 private:
  struct Sums {
    double weight = 0, first = 0, second = 0;
  };

  double mean(size_t begin, size_t end) const {
    return origin_ + (sums_[end].first - sums_[begin].first) / (sums_[end].weight - sums_[begin].weight);
  }

  /// Of points [begin, end) around their mean.
  double cost(size_t begin, size_t end) const {
    const double weight = sums_[end].weight - sums_[begin].weight,
                 first = sums_[end].first - sums_[begin].first;
    return std::max(0.0, sums_[end].second - sums_[begin].second - first * first / weight);
  }

  /// The row of so many clusters, for ends [from, to], whose last cluster begins in [least, most].
  void fill(size_t cluster, size_t from, size_t to, size_t least, size_t most) {
    if (from > to) return;
    const size_t end = from + (to - from) / 2;
    double& best = best_[cluster][end];
    size_t& cut = cuts_[cluster][end];
    for (size_t begin = std::max(least, cluster - 1); begin <= std::min(most, end - 1); ++begin) {
      const double sum = best_[cluster - 1][begin] + cost(begin, end);
      if (sum >= best) continue;
      best = sum;
      cut = begin;
    }
    if (end > from) fill(cluster, from, end - 1, least, cut);
    fill(cluster, end + 1, to, cut, most);
  }

  size_t count_;
  double origin_ = 0;
  std::vector<Sums> sums_;
  std::vector<std::vector<double>> best_;
  std::vector<std::vector<size_t>> cuts_;
};

}  // namespace

std::vector<double> weighted_kmeans(std::span<const WeightedPoint> points, int k) {
  LATHE_ASSERT(!points.empty() && k > 0, "{} points, {} clusters", points.size(), k);
  const auto wanted = static_cast<size_t>(k);
  std::vector<double> centres = Table(points).solve(std::min(wanted, points.size()));
  centres.resize(wanted, centres.back());
  return centres;
}

}  // namespace lathe
