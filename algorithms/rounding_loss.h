// The output error that rounding to nearest causes in linears that read one input: what a search for scales
// minimises.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "algorithms/algorithm.h"
#include "algorithms/tensor_scale.h"
#include "lib/numeric/quadratic_form.h"

namespace lathe {

/// tr(dW H dW^T) summed over the linears, dW = Q(W s)/s - W, each rounded with its own scheme to the range of
/// its groups. Values are made for a chunk of rows at a time. FP32 products, FP64 sums.
class RoundingLoss {
 public:
  /// `linears`: contiguous weights [out, in]; kept by reference. gram: H, FP32 [in, in].
  RoundingLoss(const std::vector<LinearProblem>& linears, const at::Tensor& gram)
      : linears_(linears), magnitude_(linears), form_(gram) {}

  /// scales: FP32 [in] > 0; undefined means 1. Gives up once the sum exceeds `limit`, or is NaN: what it
  /// returns then is no loss, only beyond the limit. On a GPU the host waits for every chunk of rows.
  double up_to(double limit, const at::Tensor& scales) const;
  /// The same sum, bit for bit, as a Double scalar on the weights' device, which is not waited for.
  at::Tensor on_device(const at::Tensor& scales) const;

 private:
  at::Tensor of_rows(const LinearProblem& linear, int64_t row, int64_t count, const at::Tensor& scales,
                     const at::Tensor& largest) const;

  const std::vector<LinearProblem>& linears_;
  TensorMagnitude magnitude_;
  QuadraticForm form_;
};

}  // namespace lathe
