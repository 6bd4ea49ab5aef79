#include "calib/stats/clip_range.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "lib/base/error.h"

namespace lathe {
namespace {

constexpr int64_t kZero = kHistogramBins / 2;  // the first bin that isn't negative
constexpr int64_t kLeastBins = 128;
constexpr int64_t kRaster = 8, kParts = 128, kRounds = 8;
constexpr double kInfinite = std::numeric_limits<double>::infinity();

/// Bins [first, end), first <= kZero <= end.
struct Bins {
  int64_t first = 0, end = 0;
  int64_t count() const { return end - first; }
  bool operator==(const Bins&) const = default;
};

Bins used_bins(const Histogram& histogram) {
  const auto& counts = histogram.counts;
  const auto holds = [](int64_t count) { return count > 0; };
  const auto first = std::find_if(counts.begin(), counts.end(), holds) - counts.begin();
  return {std::min<int64_t>(first, kZero), std::max<int64_t>(histogram.used(), kZero)};
}

/// Descends from the used bins to the range with the least score, of at least `least` bins.
template <class Score>
class Descent {
 public:
  Descent(Bins used, int64_t least, const Score& score)
      : used_(used), least_(std::min(least, used.count())), score_(score), best_(used), value_(score(used)) {}

  Bins run() {
    for (int64_t part = kParts - 1; part > 0; --part)
      consider({kZero - (kZero - used_.first) * part / kParts, kZero + (used_.end - kZero) * part / kParts});
    for (int round = 0; round < kRounds; ++round) {
      const Bins before = best_;
      move(kRaster, kHistogramBins);
      move(1, kRaster);
      if (best_ == before) break;
    }
    return best_;
  }
  double value() const { return value_; }

 private:
  void consider(Bins bins) {
    bins = {std::clamp(bins.first, used_.first, kZero), std::clamp(bins.end, kZero, used_.end)};
    if (bins == best_ || bins.count() < least_) return;
    const double value = score_(bins);
    const bool wider = value == value_ && bins.count() > best_.count();
    if (value < value_ || wider) best_ = bins, value_ = value;
  }
  /// Each end by multiples of `step`, up to `reach` bins.
  void move(int64_t step, int64_t reach) {
    const Bins from = best_;
    for (int64_t by = -reach; by <= reach; by += step) consider({from.first + by, best_.end});
    const Bins then = best_;
    for (int64_t by = -reach; by <= reach; by += step) consider({then.first, then.end + by});
  }

  Bins used_;
  int64_t least_;
  const Score& score_;
  Bins best_;
  double value_;
};

template <class Score>
ClipRange best_range(const Histogram& histogram, int64_t least, const Score& score) {
  LATHE_ASSERT(histogram.total > 0, "a range for no values");
  const Bins used = used_bins(histogram);
  if (used.first >= kZero - 1 && used.end <= kZero + 1 && histogram.width <= 0x1p-30) return {};  // zeros
  Descent descent(used, least, score);
  const Bins best = descent.run();
  return {static_cast<double>(best.first - kZero) * histogram.width,
          static_cast<double>(best.end - kZero) * histogram.width, descent.value()};
}

/// The integral of (t - Q(t))^2 from 0 to t, Q the nearest of 0 .. last.
double error_integral(double t, double last) {
  const double nearest = std::clamp(std::nearbyint(t), 0.0, last), distance = t - nearest;
  return nearest / 12 + distance * distance * distance / 3;
}

double mean_squared_error(const Histogram& histogram, Bins used, Bins bins, int64_t levels) {
  // In units of the grid's steps.
  const double last = static_cast<double>(levels - 1), bin = last / static_cast<double>(bins.count());
  double sum = 0, before = error_integral(static_cast<double>(used.first - bins.first) * bin, last);
  for (int64_t at = used.first; at < used.end; ++at) {
    const double until = error_integral(static_cast<double>(at + 1 - bins.first) * bin, last);
    sum += static_cast<double>(histogram.counts[static_cast<size_t>(at)]) * (until - before);
    before = until;
  }
  const double step = histogram.width / bin;
  return sum / bin * step * step / static_cast<double>(histogram.total);
}

double c_log_c(int64_t c) { return c == 0 ? 0 : static_cast<double>(c) * std::log(static_cast<double>(c)); }

/// Sums over the bins before each.
struct Sums {
  std::vector<int64_t> count{0}, occupied{0};
  std::vector<double> entropy{0};  // of c log c

  explicit Sums(const Histogram& histogram) {
    for (const int64_t c : histogram.counts) {
      count.push_back(count.back() + c);
      occupied.push_back(occupied.back() + (c > 0 ? 1 : 0));
      entropy.push_back(entropy.back() + c_log_c(c));
    }
  }
};

/// What a range clips and what its ends hold.
struct End {
  int64_t beyond = 0, held = 0;
  double entropy_gained() const { return c_log_c(held + beyond) - c_log_c(held); }
  int64_t occupied_gained() const { return beyond > 0 && held == 0 ? 1 : 0; }
};

/// Sum over the bins of P log(P / Q), by levels: within one, Q is constant.
double divergence(const Histogram& histogram, const Sums& sums, Bins bins, int64_t levels) {
  const auto at = [](int64_t bin) { return static_cast<size_t>(bin); };
  const End low{sums.count[at(bins.first)], histogram.counts[at(bins.first)]};
  const End high{histogram.total - sums.count[at(bins.end)], histogram.counts[at(bins.end - 1)]};
  const int64_t kept = histogram.total - low.beyond - high.beyond;
  if (kept == 0) return kInfinite;
  double sum = sums.entropy[at(bins.end)] - sums.entropy[at(bins.first)] + low.entropy_gained() +
               high.entropy_gained();
  for (int64_t level = 0; level < levels; ++level) {
    const int64_t from = bins.first + (level * bins.count() + levels - 1) / levels;
    const int64_t to = bins.first + ((level + 1) * bins.count() + levels - 1) / levels;
    if (from >= to) continue;
    const int64_t mass = sums.count[at(to)] - sums.count[at(from)];
    int64_t occupied = sums.occupied[at(to)] - sums.occupied[at(from)], wanted = mass;
    if (from == bins.first) wanted += low.beyond, occupied += low.occupied_gained();
    if (to == bins.end) wanted += high.beyond, occupied += high.occupied_gained();
    if (wanted == 0) continue;
    if (mass == 0) return kInfinite;  // of what is clipped, Q holds nothing
    sum -= static_cast<double>(wanted) * std::log(static_cast<double>(mass) / static_cast<double>(occupied));
  }
  const auto total = static_cast<double>(histogram.total);
  return sum / total - std::log(total) + std::log(static_cast<double>(kept));
}

}  // namespace

ClipRange mse_clip_range(const Histogram& histogram, int64_t levels) {
  const Bins used = used_bins(histogram);
  return best_range(histogram, kLeastBins,
                    [&](Bins bins) { return mean_squared_error(histogram, used, bins, levels); });
}

ClipRange entropy_clip_range(const Histogram& given, int64_t levels) {
  Histogram histogram = given;
  for (const int64_t beside :
       {int64_t{-1}, int64_t{1}}) {  // the bins next to zero: as much as their neighbours
    int64_t& bin = histogram.counts[static_cast<size_t>(beside < 0 ? kZero - 1 : kZero)];
    const int64_t neighbour = histogram.counts[static_cast<size_t>(beside < 0 ? kZero - 2 : kZero + 1)];
    if (neighbour == 0) continue;
    histogram.total += neighbour - bin;
    bin = neighbour;
  }
  const Sums sums(histogram);
  return best_range(histogram, levels, [&](Bins bins) { return divergence(histogram, sums, bins, levels); });
}

}  // namespace lathe
