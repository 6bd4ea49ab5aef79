#include "calib/stats/clip.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "lib/base/error.h"

namespace lathe {
namespace {

/// The integral of (t - Q(t))^2 from 0 to x for levels as they are, Q the nearest of them.
class ErrorIntegral {
 public:
  explicit ErrorIntegral(const LevelGrid& grid) : levels_(grid.levels) {
    double sum = 0;
    for (size_t i = 0; i < levels_.size(); ++i) {
      const double below = i == 0 ? 0 : levels_[i] - middle(i - 1);
      sum += below * below * below / 3;
      until_level_.push_back(sum);
      if (i + 1 == levels_.size()) break;
      const double above = middle(i) - levels_[i];
      sum += above * above * above / 3;
    }
  }

  /// `at`: the level whose cell holds the last x; moves up with x.
  double operator()(double x, size_t& at) const {
    while (at + 1 < levels_.size() && x > middle(at)) ++at;
    const double distance = x - levels_[at];
    return until_level_[at] + distance * distance * distance / 3;
  }

 private:
  double middle(size_t i) const { return (levels_[i] + levels_[i + 1]) / 2; }

  const std::vector<double>& levels_;
  std::vector<double> until_level_;  // integral from 0 to each level
};

double mean_squared_error(const Histogram& histogram, const LevelGrid& grid, const ErrorIntegral& integral,
                          int64_t bins, int64_t used) {
  // In units where the clip is the largest level, a bin is `step` wide.
  const double step = grid.largest() / static_cast<double>(bins);
  double sum = 0, before = 0;
  size_t level = 0;
  for (int64_t bin = 0; bin < used; ++bin) {
    const double until = integral(static_cast<double>(bin + 1) * step, level);
    sum += static_cast<double>(histogram.counts[static_cast<size_t>(bin)]) * (until - before);
    before = until;
  }
  const double scale = histogram.width / step;  // of the real values
  return sum / step * scale * scale / static_cast<double>(histogram.total);
}

/// Sums over the first k bins, k = 0 .. used.
struct Prefix {
  std::vector<int64_t> count, occupied;
  std::vector<double> entropy;  // sum of c log c

  Prefix(const Histogram& histogram, int64_t used) : count{0}, occupied{0}, entropy{0} {
    for (int64_t bin = 0; bin < used; ++bin) {
      const int64_t c = histogram.counts[static_cast<size_t>(bin)];
      count.push_back(count.back() + c);
      occupied.push_back(occupied.back() + (c > 0 ? 1 : 0));
      entropy.push_back(entropy.back() + c_log_c(c));
    }
  }
  static double c_log_c(int64_t c) {
    return c == 0 ? 0 : static_cast<double>(c) * std::log(static_cast<double>(c));
  }
};

/// The first bin of each level, and `bins` after the last.
std::vector<int64_t> level_edges(const LevelGrid& grid, int64_t bins) {
  std::vector<int64_t> edges;
  const auto levels = static_cast<int64_t>(grid.levels.size());
  for (int64_t level = 0; level < levels; ++level) {
    if (grid.uniform) {
      edges.push_back((level * bins + levels - 1) / levels);
    } else if (level == 0) {
      edges.push_back(0);
    } else {  // (bin + 0.5) / bins * largest >= the middle between this level and the one below
      const auto i = static_cast<size_t>(level);
      const double middle = (grid.levels[i - 1] + grid.levels[i]) / 2;
      edges.push_back(
          static_cast<int64_t>(std::ceil(middle * static_cast<double>(bins) / grid.largest() - 0.5)));
    }
  }
  edges.push_back(bins);
  return edges;
}

/// Sum over k of P log(P / Q), by levels: within one, Q is constant.
double divergence(const Histogram& histogram, const Prefix& prefix, const LevelGrid& grid, int64_t bins) {
  const auto end = static_cast<size_t>(bins);
  const int64_t last = histogram.counts[end - 1], kept = prefix.count[end], outliers = histogram.total - kept;
  if (kept == 0) return std::numeric_limits<double>::infinity();
  double sum = prefix.entropy[end] - Prefix::c_log_c(last) + Prefix::c_log_c(last + outliers);
  const std::vector<int64_t> edges = level_edges(grid, bins);
  for (size_t level = 0; level + 1 < edges.size(); ++level) {
    const auto from = static_cast<size_t>(edges[level]), to = static_cast<size_t>(edges[level + 1]);
    if (from >= to) continue;
    const bool saturated = to == end && outliers > 0;
    const int64_t mass = prefix.count[to] - prefix.count[from];
    const int64_t occupied = prefix.occupied[to] - prefix.occupied[from] + (saturated && last == 0 ? 1 : 0);
    const int64_t wanted = mass + (saturated ? outliers : 0);
    if (wanted == 0) continue;
    if (mass == 0) return std::numeric_limits<double>::infinity();
    sum -= static_cast<double>(wanted) * std::log(static_cast<double>(mass) / static_cast<double>(occupied));
  }
  const auto total = static_cast<double>(histogram.total);
  return sum / total - std::log(total) + std::log(static_cast<double>(kept));
}

/// The candidate with the smallest score(bins), the widest of equals.
template <class Score>
Clip best_clip(const Histogram& histogram, const Score& score) {
  LATHE_ASSERT(histogram.total > 0, "a clip for no values");
  const int64_t used = histogram.used();
  Clip best{histogram.width * static_cast<double>(used), used, score(used)};
  if (used == 1 && histogram.width <= 0x1p-30) return {0, used, 0};  // zeros, or as good as
  for (int64_t bins = used - 1; bins >= kFirstClipBins; --bins) {
    const double value = score(bins);
    if (value < best.score) best = {histogram.width * static_cast<double>(bins), bins, value};
  }
  return best;
}

}  // namespace

Clip mse_clip(const Histogram& histogram, const LevelGrid& grid) {
  const ErrorIntegral integral(grid);
  const int64_t used = histogram.used();
  return best_clip(histogram,
                   [&](int64_t bins) { return mean_squared_error(histogram, grid, integral, bins, used); });
}

Clip entropy_clip(const Histogram& given, const LevelGrid& grid) {
  Histogram histogram = given;
  if (histogram.used() > 1) {  // else all is in bin 0
    histogram.total += histogram.counts[1] - histogram.counts[0];
    histogram.counts[0] = histogram.counts[1];
  }
  const Prefix prefix(histogram, histogram.used());
  return best_clip(histogram, [&](int64_t bins) { return divergence(histogram, prefix, grid, bins); });
}

double range_end(const Clip& clip, const LevelGrid& grid) {
  return grid.uniform ? clip.magnitude * (grid.largest() + 0.5) / grid.largest() : clip.magnitude;
}

}  // namespace lathe
