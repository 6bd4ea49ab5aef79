#include "lib/numeric/kvquant.h"

#include <c10/util/Half.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace lathe {
namespace {

float half(float x) { return static_cast<float>(static_cast<c10::Half>(x)); }

/// As at::lerp(): from the end that is nearer.
float between(float a, float b, float weight) {
  return weight < 0.5f ? a + weight * (b - a) : b - (b - a) * (1 - weight);
}

/// A share of numbers in order, linear between two of them.
float quantile(const std::vector<float>& sorted, double share) {
  const double rank = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(rank);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return between(sorted[below], sorted[above], static_cast<float>(rank - static_cast<double>(below)));
}

float in_range(float x, float middle, float width, const KvQuantLevels& levels) {
  return half(width == 0 ? middle : levels.nearest((x - middle) / width) * width + middle);
}

}  // namespace

float KvQuantLevels::nearest(float scaled) const {
  float best = levels.front(), distance = std::numeric_limits<float>::infinity();
  for (const float level : levels) {
    if (std::abs(scaled - level) >= distance) continue;
    best = level;
    distance = std::abs(scaled - level);
  }
  return best * factor + offset;
}

float round_kvquant_key(float x, float lower, float upper, const KvQuantLevels& levels) {
  const float number = half(x);
  if (number < lower || number > upper) return number;
  return in_range(number, half(half(upper + lower) / 2), half(half(upper - lower) / 2), levels);
}

void round_kvquant_token(std::span<const float> values, const KvQuantLevels& levels, double outliers,
                         std::span<float> out) {
  std::vector<float> numbers;
  for (const float value : values) numbers.push_back(half(value));
  std::vector<float> sorted = numbers;
  std::ranges::sort(sorted);
  // What is an outlier counts as the median (the lower of two), so that it stretches no range.
  const float median = sorted[(sorted.size() - 1) / 2];
  float low = -std::numeric_limits<float>::infinity(), high = -low;
  if (outliers > 0) {
    low = quantile(sorted, outliers / 2);
    high = quantile(sorted, 1 - outliers / 2);
  }
  const auto is_outlier = [&](float x) { return x <= low || x >= high; };
  float least = std::numeric_limits<float>::infinity(), largest = -least;
  for (const float number : numbers) {
    const float counted = is_outlier(number) ? median : number;
    least = std::min(least, counted);
    largest = std::max(largest, counted);
  }
  const float middle = (largest + least) / 2, width = (largest - least) / 2;
  for (size_t i = 0; i < numbers.size(); ++i)
    out[i] = is_outlier(numbers[i]) ? numbers[i] : in_range(numbers[i], middle, width, levels);
}

size_t kvquant_outliers(double outliers, size_t count) {
  if (outliers <= 0) return 0;
  const auto last = static_cast<double>(count - 1);
  const auto beyond_low = static_cast<size_t>(std::floor(outliers / 2 * last)) + 1;
  const auto beyond_high = count - static_cast<size_t>(std::ceil((1 - outliers / 2) * last));
  return beyond_low + beyond_high;
}

}  // namespace lathe
