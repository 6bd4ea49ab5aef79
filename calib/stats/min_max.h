// Minimum and maximum of channels, groups and tensors, and their exponential average.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace lathe {

/// low, high: Float [width] (or one value a group or token, where it says so).
struct MinMax {
  at::Tensor low, high;
  bool defined() const { return low.defined(); }
};

/// What is kept of the average at each step: e_0 = v_0, e_n = kEmaDecay * e_(n-1) + (1 - kEmaDecay) * v_n, as
/// PyTorch's MovingAverageMinMaxObserver does with its averaging_constant of 0.01; a step is a chunk of
/// tokens (StatsCollector::kChunkTokens; the last may be shorter), so that batch sizes don't matter.
constexpr double kEmaDecay = 0.99;

/// The average as a monoid: (n, first, s) with s = sum of decay^(n-1-i) v_i composes to (n + m, first,
/// decay^m s + s'), from which e follows. Merging equals the whole but for FP64 rounding, provided the halves
/// are in order and the first ends with a chunk.
class EmaMinMaxCollector {
 public:
  /// whole: of the extremes of all channels together.
  explicit EmaMinMaxCollector(bool whole) : whole_(whole) {}

  /// chunk: the channels' range over one step; kept, not copied.
  void observe(const MinMax& chunk);
  void merge(EmaMinMaxCollector other);
  MinMax finish();

 private:
  void fold();

  bool whole_;
  int64_t steps_ = 0;            // in the sums
  std::vector<MinMax> waiting_;  // steps after them: many at a time cost a GPU no more than one
  MinMax first_;
  at::Tensor low_sum_, high_sum_;  // FP64 [width], of the whole [1]
};

/// The ranges of groups of `group_size` consecutive channels (-1: of all, one group): Float [width /
/// group_size], from those of the channels. Of running extrema that is the groups' own range. Of exponential
/// averages it is not: PyTorch averages the group's extremes, and the extreme of the channels' averages lies
/// within that (InputStats::ema_tensor is PyTorch's, for the whole tensor).
MinMax grouped(const MinMax& channels, int64_t group_size);

/// max |x| from its range: Float, of the range's shape.
at::Tensor largest_magnitudes(const MinMax& range);

}  // namespace lathe
