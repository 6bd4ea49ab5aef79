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

/// The weight of a step in an exponential average: e_0 = v_0, e_n = (1 - c) e_(n-1) + c v_n, as PyTorch's
/// MovingAverageMinMaxObserver has it, with its default of c, averaging_constant; a step is a chunk of tokens
/// (StatsCollector::kChunkTokens; the last may be shorter), so that batch sizes don't matter.
constexpr double kAveragingConstant = 0.01;

/// Steps of all channels that wait until they are taken together: many at a time cost a GPU no more than one.
constexpr size_t kMostWaitingSteps = 16;

/// The average of channels, by kAveragingConstant, as a monoid, with decay = 1 - c: (n, first, s) with s =
/// sum of decay^(n-1-i) v_i composes to (n + m, first, decay^m s + s'), from which e follows. Merging equals
/// the whole but for FP64 rounding, provided the halves are in order and the first ends with a chunk.
class EmaMinMaxCollector {
 public:
  /// chunk: the channels' range over one step; kept, not copied.
  void observe(const MinMax& chunk);
  void merge(EmaMinMaxCollector other);
  MinMax finish();

 private:
  void fold();

  int64_t steps_ = 0;            // in the sums
  std::vector<MinMax> waiting_;  // steps after them
  MinMax first_;
  at::Tensor low_sum_, high_sum_;  // FP64 [width]
};

/// The range of each step, of groups of step_group(width) channels: small enough to be kept (8 bytes for
/// 2,048 tokens and 16 channels), so that the average follows for each group size and constant that is asked
/// for. Merging appends: bitwise the whole, provided the halves are in order and the first ends with a chunk.
class StepMinMaxCollector {
 public:
  void observe(const MinMax& chunk);
  void merge(StepMinMaxCollector other);
  /// Float [steps, width / step_group(width)].
  MinMax finish();

 private:
  void fold();

  std::vector<MinMax> waiting_;         // steps of all channels
  std::vector<at::Tensor> low_, high_;  // [some steps, groups]
};

/// 16 channels, or as many of them as divide `width`.
int64_t step_group(int64_t width);

/// The exponential averages, by `constant` (0 < c <= 1), of the ranges of groups of channels: what PyTorch's
/// MovingAverageMinMaxObserver gives for each group by itself, in FP64 until the end. `steps`: what
/// StepMinMaxCollector::finish() gave; `together`: how many of its columns make a group, group size /
/// step_group(width), or -1: all, the tensor. Float [columns / together].
MinMax averaged(const MinMax& steps, int64_t together, double constant);

/// The ranges of groups of `group_size` consecutive channels (-1: of all, one group): Float [width /
/// group_size], from those of the channels. Of running extrema that is the groups' own range. Of exponential
/// averages it is not: PyTorch averages the group's extremes, as averaged() does, and the extreme of the
/// channels' averages lies within that.
MinMax grouped(const MinMax& channels, int64_t group_size);

/// max |x| from its range: Float, of the range's shape.
at::Tensor largest_magnitudes(const MinMax& range);

}  // namespace lathe
