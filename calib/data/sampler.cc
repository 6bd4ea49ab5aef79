#include "calib/data/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lib/base/error.h"

namespace lathe {
namespace {

/// SplitMix64 (Steele, Lea, Flood 2014): the standard library's distributions differ from one library to the
/// next, and a seed must name the same rows everywhere.
class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  /// Uniform in [0, bound), bound >= 1; draws that would favour small values are thrown away.
  uint64_t below(uint64_t bound) {
    const uint64_t threshold = (0 - bound) % bound;  // 2^64 mod bound
    uint64_t draw = next();
    while (draw < threshold) draw = next();
    return draw % bound;
  }

 private:
  uint64_t state_;
};

}  // namespace

std::vector<int64_t> choose_samples(int64_t count, int64_t samples, uint64_t seed) {
  LATHE_ASSERT(samples >= 0 && samples <= count, "{} samples of {}", samples, count);
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  if (seed != 0 && samples < count) {
    SplitMix64 random(seed);
    for (int64_t i = 0; i < samples; ++i) {
      const auto j = i + static_cast<int64_t>(random.below(static_cast<uint64_t>(count - i)));
      std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(j)]);
    }
  }
  order.resize(static_cast<size_t>(samples));
  std::sort(order.begin(), order.end());
  return order;
}

uint64_t seed_of_source(uint64_t seed, size_t index) {
  if (seed == 0 || index == 0) return seed;
  SplitMix64 random(seed);
  uint64_t drawn = 0;
  for (size_t i = 0; i < index; ++i) drawn = random.next();
  return std::max<uint64_t>(drawn, 1);  // 0 would mean the first samples
}

std::vector<int64_t> split_by_weight(int64_t total, const std::vector<double>& weights) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  LATHE_ASSERT(total >= 0 && !weights.empty() && sum > 0 && std::isfinite(sum), "{} by weights of sum {}",
               total, sum);
  std::vector<int64_t> parts;
  std::vector<double> remainders;
  for (const double weight : weights) {
    const double exact = static_cast<double>(total) * weight / sum;
    parts.push_back(static_cast<int64_t>(exact));
    remainders.push_back(exact - std::floor(exact));
  }
  std::vector<size_t> order(weights.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return remainders[a] > remainders[b]; });
  int64_t left = total - std::accumulate(parts.begin(), parts.end(), int64_t{0});
  for (size_t i = 0; left > 0; i = (i + 1) % order.size(), --left) ++parts[order[i]];
  return parts;
}

}  // namespace lathe
