// The finished statistics of one linear input X[tokens, in]: what an algorithm asked for, and only that.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "calib/stats/distribution.h"
#include "calib/stats/min_max.h"
#include "calib/stats/stat_set.h"

namespace lathe {

/// Undefined tensors (null pointers) were not asked for. Means are over tokens that count; those of products
/// and squares (Gram matrices, mean_square) over their weights, where tokens had any.
struct InputStats {
  int64_t tokens = 0;
  int64_t gram_tokens = 0;  // that `gram` is of: the first of them, or all
  at::Tensor gram;          // FP32 [in, in], X^T X / gram_tokens
  at::Tensor cross_gram;    // FP32 [in, in], X_ref^T X / tokens
  at::Tensor mean_abs;      // FP32 [in], E|x|
  at::Tensor mean_square;   // FP32 [in], E[x^2]; llama.cpp's imatrix is this times tokens
  MinMax min_max;           // FP32 [in]
  MinMax ema_min_max;       // FP32 [in], of each channel
  MinMax step_min_max;      // FP32 [chunks, in / step_group(in)]; averaged() has their averages
  MinMax token_min_max;     // FP32 [tokens], in the order of observation
  at::Tensor outliers;      // Long [in], tokens with |x| >= 6
  at::Tensor kurtosis;      // FP32 [in], E[(x - mean)^4] / variance^2
  at::Tensor kurtosis_all;  // FP64 [], of all values together, with kurtosis
  std::shared_ptr<const Distribution> distribution;
  ChannelDistribution channel_distribution;
  at::Tensor sample;  // FP32 [some tokens, in], X's own rows (token_sample.h)
  /// What with_inputs_divided could not carry over: was asked for, and has to be collected again.
  StatSet lost;

  /// The statistics of X with column j divided by scales[j] > 0 (a fold moved the scale out of the input; of
  /// X_ref, too), without a second look at the data; exact but for the rounding of FP32. What depends on
  /// several channels at once or on a fixed magnitude (kLostByDivision) can't follow: it becomes undefined
  /// and is named in `lost`. kurtosis_all becomes undefined, too, without being named, for its channels'
  /// values are still there.
  InputStats with_inputs_divided(const at::Tensor& scales) const&;
  /// The same, in the memory of the matrices where nobody else holds them: one of them may be a gigabyte.
  InputStats with_inputs_divided(const at::Tensor& scales) &&;

  /// Takes over from `again`, observed after the fold, what was lost. It must hold all of that which is
  /// `wanted`; nothing of that is lost any more.
  void recover(StatSet wanted, InputStats again);

  /// The statistics that are held.
  StatSet held() const;
};

}  // namespace lathe
