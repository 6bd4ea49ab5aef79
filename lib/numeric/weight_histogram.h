// How a matrix's weights were spread before and after they were rounded: counts of a sample in a fixed number
// of bins, for people to look at.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "lib/numeric/quantized_tensor.h"

namespace lathe {

struct WeightHistogram {
  static constexpr int64_t kBins = 48;
  /// Weights that are looked at, at most (in whole rows, one at least): what it costs doesn't grow with the
  /// matrix.
  static constexpr int64_t kSampled = int64_t{1} << 16;

  double limit = 0;  // bins are equally wide, from -limit to limit: the sample's largest magnitude
  std::vector<int64_t> before, after;  // [kBins]; each sums to the sample's size
};

/// Counts on the weights' device: reading them waits for it.
struct WeightHistogramCounts {
  at::Tensor limit;   // Double [1]
  at::Tensor counts;  // Long [2, kBins]

  WeightHistogram read() const;
};

/// Values in equally wide bins from -limit to limit, the largest magnitude: Long [bins]; the last bin holds
/// its upper end, too, and what is not a number counts as 0. values: any float type; limit: Double [1], above
/// 0 or NaN where all are 0. Queued only.
at::Tensor count_in_bins(const at::Tensor& values, const at::Tensor& limit, int64_t bins);

/// Queued only. weight: FP32 [out, in], what `quantized` stands for. Rows are taken in eight runs, evenly
/// spaced.
WeightHistogramCounts count_weights(const at::Tensor& weight, const QuantizedTensor& quantized);

}  // namespace lathe
