// The output error that rounding activations causes in linears that read one input, without a look at the
// tokens: what a search for scales adds to the weights' rounding error (rounding_loss.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>
#include <vector>

#include "algorithms/algorithm.h"

namespace lathe {

/// E_t[span_t^2], where a token's grid has to span `span`: 2 max_j |u_tj| if it is symmetric, else max_j u_tj
/// - min_j u_tj with 0 among them; u_tj = x_tj / s_j. From what is known of each channel alone.
///
/// Model: channels are independent and normal with mean 0 and their E[u_j^2], cut off at the ends that were
/// seen. Then the largest magnitude is at most h with probability prod_j erf(h / sqrt(2 E[u_j^2])), a factor
/// being 1 from the channel's own end on, and E[largest^2] = integral over h of 2 h (1 - that), taken by the
/// midpoint rule. For an asymmetric grid the same with the normal distribution in place of erf, at each end,
/// the two ends taken as independent. One channel far above the rest gives its own E[u^2]; n alike give about
/// 2 ln n times that. (Too large by up to a third for an asymmetric grid where one or two channels make up
/// both ends.)
/// mean_square: FP32 [in], E[x^2]. range: FP32 [in]. scales: FP32 [in] > 0, or undefined for 1. A Double
/// scalar on their device, which is not waited for.
at::Tensor expected_square_span(const at::Tensor& mean_square, const MinMax& range, const at::Tensor& scales,
                                bool symmetric);

/// E[step^2] / 12 * sum_j |W_j|^2 s_j^2 over the linears whose input is quantised, as a function of the
/// scales s: rounding to a grid of that step adds an error with that variance to each channel, independent of
/// its value and of the other channels' errors, and the scaled column carries it to the output. (The largest
/// magnitude under a symmetric grid is off by half a step, for q = 127.5 is none: not counted.) The step
/// times 2^bits - 1 is the range that the grid spans:
///   dynamic, per token: that token's, its mean square by the model above;
/// Floating-point grids (FP8, NVFP4, MX) have no one step: a number's own is 2^-m of its binade, m the
/// mantissa's bits, so the error is relative to the value, E[e_j^2] = 4^-m E[(2^exponent / u)^2] / 12 *
/// E[u_j^2] with 3 / (8 ln 2) for the middle factor where mantissas are spread as Benford has them. Scales
/// cancel: such inputs gain nothing from a fold, and the term is a constant. (What falls below the smallest
/// normal number is not counted.)
///   static, per tensor: that of all tokens, from the channels' minima and maxima: exact for the minmax
///   observer, which it stands for.
class ActivationLoss {
 public:
  /// `linears`: weights FP32 [out, in]. stats: gram and min_max.
  ActivationLoss(const std::vector<LinearProblem>& linears, const InputStats& stats);

  /// scales: FP32 [in] > 0; undefined means 1. A Double scalar on the weights' device; 0 where no input is
  /// quantised.
  at::Tensor on_device(const at::Tensor& scales) const;

 private:
  at::Tensor mean_squared_step(const ActivationScheme& scheme, const at::Tensor& scales) const;

  at::Tensor mean_square_;                                        // FP32 [in]
  MinMax range_;                                                  // FP32 [in]
  std::vector<std::pair<ActivationScheme, at::Tensor>> columns_;  // Double [in], sum over rows of w^2
};

}  // namespace lathe
