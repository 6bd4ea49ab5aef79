// The distribution of a tensor's values: percentiles and, in histogram.h, histograms.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace lathe {

/// What is known of the values of one tensor (all tokens, all channels), on the CPU.
///
/// Up to kExactValues values, percentiles are exact. Beyond, they come from a sketch of log-linear bins
/// (DDSketch, arXiv 1908.10693; lib/kernels/device/value_bins.cuh): the answer differs from the exact one by
/// at most 2^-11 (0.05 %) of it, or by 2^-30 where it is smaller than 2^-30; minimum and maximum stay exact.
/// Counts are integers, so merging and batching change nothing.
struct Distribution {
  static constexpr int64_t kExactValues = int64_t{1} << 18;

  at::Tensor counts;         // Long [2, bins]: not negative, negative; by magnitude
  at::Tensor values;         // Float [total], ascending; undefined beyond kExactValues
  double low = 0, high = 0;  // the exact minimum and maximum
  int64_t total = 0;

  bool exact() const { return values.defined(); }
  /// The smallest value v such that at least q * total values are <= v (numpy's "inverted_cdf"); 0 <= q <= 1.
  double quantile(double q) const;
  /// The same for magnitudes: quantile(0.9999) of |x| is the 99.99th percentile that clipping uses.
  double magnitude_quantile(double q) const;
  double largest_magnitude() const;
};

class DistributionCollector {
 public:
  /// x: contiguous [rows, width], finite, Float (on CUDA Half and BFloat16, too).
  void observe(const at::Tensor& x);
  void merge(const DistributionCollector& other);
  /// low, high: the minimum and maximum of all that was observed.
  Distribution finish(double low, double high) const;

 private:
  void keep(const std::vector<at::Tensor>& parts, int64_t total);

  at::Tensor counts_;
  std::vector<at::Tensor> values_;  // until total_ passes kExactValues
  int64_t total_ = 0;
};

/// Percentiles of each channel's magnitudes, from coarser bins: within 2^-6 (1.6 %) relative for magnitudes
/// from 2^-20 to 2^16, and never above the largest, which quantile 1 is exactly. A percentile beyond 2^16 is
/// given as the channel's largest magnitude, an upper bound.
struct ChannelDistribution {
  at::Tensor counts;   // Int [width, bins]
  at::Tensor largest;  // Float [width], the exact max |x|
  bool defined() const { return counts.defined(); }
  /// Float [width].
  at::Tensor magnitude_quantile(double q) const;
};

class ChannelDistributionCollector {
 public:
  void observe(const at::Tensor& x);
  void merge(const ChannelDistributionCollector& other);
  /// largest: Float [width], max |x| of all that was observed.
  ChannelDistribution finish(const at::Tensor& largest) const;

 private:
  at::Tensor counts_;
};

}  // namespace lathe
