// Histograms with bins of equal width: what a clip is chosen from.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

#include "calib/stats/distribution.h"

namespace lathe {

constexpr int64_t kHistogramBins = 2048;  // TensorRT's number

/// Bin k of magnitudes counts k * width <= |x| < (k + 1) * width.
///
/// The width is the smallest power of two whose 2048 bins hold the largest magnitude. So it depends on
/// nothing else, and growing it is merging bins in pairs, exactly: the histogram of a whole is that of its
/// parts, in any order, as if one had been widened by merging while values came.
struct Histogram {
  double width = 0;
  std::array<int64_t, kHistogramBins> counts{};
  int64_t total = 0;

  /// Bins up to the last that holds anything.
  int64_t used() const;
};

/// Of a sketch, exactly as counting the values would be: an octave of it has 1024 bins, so all its bins lie
/// within one of ours. (Widths end at 2^-30, where the sketch does.)
Histogram magnitude_histogram(const Distribution& distribution);

/// Of values at hand (a weight's group); Float, finite, on the CPU.
Histogram magnitude_histogram(const float* values, int64_t count);

/// Of x itself: 1024 bins on each side of zero; bin 1024 + k counts k * width <= x < (k + 1) * width, bin
/// 1023 - k its mirror image -(k + 1) * width < x <= -k * width (a negative zero is there). Width as above,
/// for 1024 bins.
Histogram signed_histogram(const Distribution& distribution);

}  // namespace lathe
