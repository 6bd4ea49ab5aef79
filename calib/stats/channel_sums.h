// What one pass over the tokens gives for each channel: extent, E|x|, E[x^2], outlier counts, kurtosis.
#pragma once

#include <ATen/core/Tensor.h>

#include "calib/stats/min_max.h"
#include "calib/stats/stat_set.h"
#include "lib/kernels/channel_moments.h"

namespace lathe {

/// Adds the chunks' sums in FP64, in the order they come. A merge adds two such sums: the same bits as the
/// whole where `other` holds one chunk, else within tokens / kChunkTokens * 2^-53 relative, before the one
/// rounding to FP32 at the end. Extent and outlier counts are exact.
class ChannelSumsCollector {
 public:
  ChannelSumsCollector(StatSet wanted, int64_t width, c10::Device device);

  /// x: contiguous [rows, width], whole chunks but for the last, kernels::kMaxMomentChunks at most. step:
  /// where wanted, gets the range of each.
  void observe(const at::Tensor& x, const kernels::StepExtrema& step = {});
  void merge(const ChannelSumsCollector& other);

  /// Long [1] on the device: the first element that is not finite or too large, counted over all rows
  /// (kernels::ChannelMoments).
  const at::Tensor& bad() const { return sums_.bad; }
  int64_t rows() const { return rows_; }

  MinMax range() const;
  /// Float [width]; undefined where not wanted.
  at::Tensor mean_abs() const;
  at::Tensor mean_square() const;
  /// The sum that mean_square() is made of: Double [width].
  const at::Tensor& square_sum() const { return sums_.square; }
  /// Long [width].
  at::Tensor outliers() const { return sums_.outliers; }

  /// E[(x - mean)^4] / variance^2 (3 for a normal distribution, 1 at least) in FP64 from the power sums;
  /// their relative error grows as (mean / deviation)^4 * 2^-53. 0 where a channel is constant.
  struct Kurtosis {
    at::Tensor channels;  // Float [width]
    at::Tensor tensor;    // Double [], of all values together
  };
  Kurtosis kurtosis() const;

 private:
  StatSet wanted_;
  int64_t width_;
  int64_t rows_ = 0;
  kernels::ChannelMoments sums_;
};

}  // namespace lathe
