#include "calib/stats/histogram.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "lib/kernels/device/value_bins.cuh"

namespace lathe {
namespace {

/// The smallest power of two, 2^-30 at least, with largest < bins * width.
double width_for(double largest, int64_t bins) {
  const double smallest = std::ldexp(1.0, device::kValueBins.lowest);
  if (largest < smallest * static_cast<double>(bins)) return smallest;
  return std::ldexp(1.0, std::ilogb(largest) + 1 - std::ilogb(static_cast<double>(bins)));
}

/// Calls add(bin of width `width`, count) for each bin of one sign of the sketch that holds anything.
template <class Add>
void for_each_bin(const at::Tensor& counts, double width, const Add& add) {
  const int64_t* const table = counts.const_data_ptr<int64_t>();
  for (int32_t bin = 0; bin < counts.size(0); ++bin) {
    if (table[bin] == 0) continue;
    const double edge = device::bin_edge(bin, device::kValueBins);
    add(static_cast<int64_t>(edge / width), table[bin]);  // exact: the width is a power of two
  }
}

}  // namespace

int64_t Histogram::used() const {
  const auto last = std::find_if(counts.rbegin(), counts.rend(), [](int64_t count) { return count > 0; });
  return counts.rend() - last;
}

Histogram magnitude_histogram(const Distribution& distribution) {
  Histogram result{width_for(distribution.largest_magnitude(), kHistogramBins), {}, distribution.total};
  for_each_bin(distribution.counts.sum(0), result.width,
               [&](int64_t bin, int64_t count) { result.counts[static_cast<size_t>(bin)] += count; });
  return result;
}

Histogram magnitude_histogram(const float* values, int64_t count) {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(values[i]));
  Histogram result{width_for(largest, kHistogramBins), {}, count};
  const double inverse = 1 / result.width;
  for (int64_t i = 0; i < count; ++i)
    ++result.counts[static_cast<size_t>(static_cast<double>(std::abs(values[i])) * inverse)];
  return result;
}

Histogram signed_histogram(const Distribution& distribution) {
  constexpr int64_t kHalf = kHistogramBins / 2;
  Histogram result{width_for(distribution.largest_magnitude(), kHalf), {}, distribution.total};
  for_each_bin(distribution.counts[0], result.width,
               [&](int64_t bin, int64_t count) { result.counts[static_cast<size_t>(kHalf + bin)] += count; });
  for_each_bin(distribution.counts[1], result.width, [&](int64_t bin, int64_t count) {
    result.counts[static_cast<size_t>(kHalf - 1 - bin)] += count;
  });
  return result;
}

}  // namespace lathe
