// What transforms that move scales along an edge share: channels that must carry one scale.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <string_view>
#include <vector>

#include "algorithms/algorithm.h"

namespace lathe {

enum class Share { mean, largest };

/// Values per input channel [in], replaced by the mean or the largest over the channels that must share one
/// scale: those of the query heads that read one KV head (ScaleEdge::repeat).
at::Tensor share_over_heads(const at::Tensor& channels, const ScaleEdge& edge, Share share);

/// Of so many candidates for an edge's scales, each rounded and weighed by tr(dW H dW^T) (rounding_loss.h).
inline Work search_work(int64_t candidates, int64_t rows, int64_t width) {
  const double weights = static_cast<double>(candidates) * static_cast<double>(rows * width);
  return {.products = weights * static_cast<double>(width), .roundings = weights};
}

/// The problem with contiguous weights. InternalError without a Gram matrix of the right size; UserError,
/// naming the linear, for a scheme that doesn't fit its width.
SharedInputProblem prepared(const SharedInputProblem& problem);
/// The same checks for one linear.
void check_problem(const LinearProblem& linear, const InputStats& stats);

/// The edges within attention and MLP that a transform's options attention_out and mlp_mid switch.
class InnerEdges {
 public:
  explicit InnerEdges(const Options& options)
      : attention_out_(options.flag("attention_out")), mlp_mid_(options.flag("mlp_mid")) {}
  /// Why an edge of this input is left, for the report; empty where it isn't.
  std::string left_out(Slot slot, std::string_view transform) const;

 private:
  bool attention_out_, mlp_mid_;
};

/// UserError: `loss`, of rounding without scales, is not finite. Names the linear and row with the largest
/// weight, or with a NaN.
void check_unscaled_loss(double loss, const SharedInputProblem& problem);

}  // namespace lathe
