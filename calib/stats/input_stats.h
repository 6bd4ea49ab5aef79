// Statistics of one linear input X[tokens, in]: what an algorithm asked for, and only that.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>

#include "calib/stats/gram.h"
#include "calib/stats/mean_abs.h"

namespace lathe {

/// A set of statistics, as algorithms declare their needs; `|` unites.
struct StatSet {
  bool gram = false;      // H = X^T X, [in, in]
  bool mean_abs = false;  // mean |x| per channel, [in]
  friend StatSet operator|(StatSet a, StatSet b) { return {a.gram || b.gram, a.mean_abs || b.mean_abs}; }
  bool operator==(const StatSet&) const = default;
};

/// The finished statistics. Undefined tensors were not asked for.
struct InputStats {
  int64_t tokens = 0;
  at::Tensor gram;      // FP32 [in, in], X^T X / tokens
  at::Tensor mean_abs;  // FP32 [in]

  /// The statistics of X with column j divided by scales[j] > 0 (a fold moved the scale out of the input),
  /// without a second look at the data; exact but for the rounding of FP32. Parts that a tensor shares are
  /// not changed in place.
  InputStats with_inputs_divided(const at::Tensor& scales) const;
};

/// Collects over any number of observations. Splitting the tokens differently changes results by rounding
/// only (FP32 within chunks of at most 4096 tokens, FP64 between them); two collectors over disjoint tokens
/// merge to the whole.
class StatsCollector {
 public:
  /// `where` names the input in errors ("model.layers.3, input attention_in").
  StatsCollector(StatSet wanted, int64_t width, c10::Device device, std::string where);

  /// x: FP32 [..., in] on the collector's device. UserError naming the place, token and channel when it holds
  /// a NaN or Inf; the collector is of no use after that.
  void observe(const at::Tensor& x);
  void merge(const StatsCollector& other);
  /// At least one token must have been observed.
  InputStats finish() const;

 private:
  void observe_chunk(const at::Tensor& x);
  [[noreturn]] void refuse(const at::Tensor& x) const;

  std::string where_;
  int64_t width_ = 0;
  int64_t tokens_ = 0;
  std::optional<GramCollector> gram_;
  std::optional<MeanAbsCollector> mean_abs_;
};

}  // namespace lathe
