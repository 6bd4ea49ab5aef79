// SpQR (Dettmers et al., arXiv 2306.03078, algorithm 1) in plain FP64 loops, line by line: what the fast path
// (spqr.h) is tested against. Slow on purpose: every leave-one-out grid is fitted anew.
#pragma once

#include <ATen/core/Tensor.h>

#include <limits>
#include <optional>

#include "algorithms/spqr_options.h"
#include "lib/numeric/scheme.h"

namespace lathe {

struct SpqrReferenceSettings {
  int bits = 3;
  int64_t group_size = 16;                   // columns of a row that share a scale and a zero; divides `in`
  std::optional<ScaleGrid> scale_grid = {};  // nothing: scales and zeros stay FP64
  OutlierRule rule = OutlierRule::leave_one_out;
  /// On the squared error that keeping a weight saves, as loss of the output (tr(dW H dW^T)); infinite: no
  /// outliers.
  double threshold = std::numeric_limits<double>::infinity();
  double damping = 0.01;   // added to H's diagonal, times its mean
  bool act_order = false;  // columns in descending order of H's diagonal, dead ones at their mean
};

/// What algorithm 1 returns. Columns are those of `permutation`: column j of each tensor is column
/// permutation[j] of the weight.
struct SpqrReferenceResult {
  at::Tensor permutation;    // Long [in]
  at::Tensor codes;          // Long [out, in], 0 .. 2^bits - 1
  at::Tensor scales, zeros;  // Double [out, groups]: value = scale * (code - zero)
  at::Tensor outliers;       // Double [out, in]: added to the value; 0 where the weight is none
  at::Tensor is_outlier;     // Bool [out, in]
  at::Tensor values;         // Double [out, in], in the weight's own order of columns
};

/// weight: [out, in], hessian: [in, in] symmetric, any floating type, CPU, finite. A column that the data
/// never uses (H[j, j] = 0) gets no weight, and the others' mean as H[j, j], as in GPTQ.
SpqrReferenceResult spqr_reference(const at::Tensor& weight, const at::Tensor& hessian,
                                   const SpqrReferenceSettings& settings);

/// Algorithm 1's `outliers`: by how much the group's squared error, each column's divided by its pivot
/// squared, falls when a weight is left out of the group, and the grid fitted to the others. group: Double
/// [rows, length]; pivots: Double [length], the diagonal of the upper Cholesky factor of H^-1. Double [rows,
/// length].
at::Tensor spqr_leave_one_out_reference(const at::Tensor& group, const at::Tensor& pivots, int bits);

}  // namespace lathe
