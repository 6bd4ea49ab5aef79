// Means per channel from sums over tokens: E|x|, E[x^2], outlier counts, kurtosis.
#pragma once

#include <ATen/core/Tensor.h>

#include "calib/stats/stat_set.h"
#include "lib/kernels/channel_moments.h"

namespace lathe {

/// Adds the chunks' sums in FP64, in the order they come. A merge adds two such sums: the same bits as the
/// whole where `other` holds one chunk, else within tokens / kChunkTokens * 2^-53 relative, before the one
/// rounding to FP32 at the end. Outlier counts are exact.
class ChannelSumsCollector {
 public:
  explicit ChannelSumsCollector(StatSet wanted) : wanted_(wanted) {}

  /// What the kernel has to make for the wanted statistics.
  static kernels::MomentsWanted wanted(StatSet set);

  void observe(const kernels::ChannelMoments& chunk);
  void merge(const ChannelSumsCollector& other);

  /// Float [width]; factor: 1 / tokens. Undefined where not wanted.
  at::Tensor mean_abs(double factor) const;
  at::Tensor mean_square(double factor) const;
  /// Long [width].
  at::Tensor outliers() const { return sums_.outliers; }

  /// E[(x - mean)^4] / variance^2 (3 for a normal distribution, 1 at least) in FP64 from the power sums;
  /// their relative error grows as (mean / deviation)^4 * 2^-53. 0 where a channel is constant.
  struct Kurtosis {
    at::Tensor channels;  // Float [width]
    double tensor = 0;    // of all values together
  };
  Kurtosis kurtosis(double factor) const;

 private:
  StatSet wanted_;
  kernels::ChannelMoments sums_;  // outliers: Long
};

}  // namespace lathe
