// Statistics of one linear input X[tokens, in]: what an algorithm asked for, and only that.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

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

  /// The statistics of X with column j divided by scales[j] (a fold moved the scale out of the input): exact, no
  /// second look at the data.
  InputStats with_inputs_divided(const at::Tensor& scales) const;
};

/// Collects over any number of observations. Splitting the tokens differently changes results by rounding only; two
/// collectors over disjoint tokens merge to the whole.
class StatsCollector {
 public:
  /// `where` names the input in errors ("model.layers.3, input attention_in").
  StatsCollector(StatSet wanted, int64_t width, c10::Device device, std::string where);

  /// x: FP32 [..., in]. UserError naming the place when it holds a NaN or Inf.
  void observe(const at::Tensor& x);
  void merge(const StatsCollector& other);
  InputStats finish() const;

 private:
  StatSet wanted_;
  std::string where_;
  int64_t tokens_ = 0;
  at::Tensor gram_sum_;  // FP64 accumulator of FP32 products, one SYRK/GEMM per observation
  at::Tensor abs_sum_;   // FP64 [in]
};

}  // namespace lathe
