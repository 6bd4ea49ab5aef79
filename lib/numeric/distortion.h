// How far an approximated weight matrix is from the original: the one object that reports, checks and tests
// share.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>

#include "lib/numeric/quantized_tensor.h"

namespace lathe {

struct Distortion {
  double weight_relative_mse = 0;  // ||W - What||^2 / ||W||^2
  double max_abs_error = 0;        // max |W - What|
  std::optional<double>
      output_relative_error;  // tr(dW H dW^T) / tr(W H W^T); nothing where no Gram matrix was given
};

/// The sums that a Distortion is made of, on the weights' device: reading them waits for it.
struct DistortionSums {
  at::Tensor values;    // Double [5]
  bool output = false;  // a Gram matrix was given

  Distortion read() const;

  /// The sums themselves, for errors of several matrices together; those of outputs are 0 without a Gram
  /// matrix.
  struct Totals {
    double weight_error = 0, weight = 0;  // ||W - What||^2, ||W||^2
    double output_error = 0, output = 0;  // tr(dW H dW^T), tr(W H W^T)
  };
  Totals totals() const;
};

/// weight, approximation: FP32 [out, in]. gram: FP32 [in, in] (any positive multiple of X^T X gives the same
/// answer), or undefined. Ratios are 0 where the error is 0, and infinite where only the reference is 0. NaN
/// comes through as NaN.
Distortion measure_distortion(const at::Tensor& weight, const at::Tensor& approximation,
                              const at::Tensor& gram);
/// The same of the values that `quantized` stands for, without all of them at a time.
Distortion measure_distortion(const at::Tensor& weight, const QuantizedTensor& quantized,
                              const at::Tensor& gram);

/// The same, queued only.
DistortionSums distortion_sums(const at::Tensor& weight, const QuantizedTensor& quantized,
                               const at::Tensor& gram);

/// Rows [begin, end) of a matrix, FP32 [end - begin, in].
using MatrixRows = std::function<at::Tensor(int64_t begin, int64_t end)>;
/// The same of what stands for the rows otherwise, on the weight's device.
DistortionSums distortion_sums(const at::Tensor& weight, const MatrixRows& rows, const at::Tensor& gram);

}  // namespace lathe
