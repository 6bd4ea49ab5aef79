// SpQR's rounding of a matrix, group by group and column by column, given a factor of the inverse Hessian:
// the part of spqr.cc that takes the time.
#pragma once

#include <ATen/core/Tensor.h>

#include "algorithms/spqr_options.h"
#include "lib/numeric/quantized_tensor.h"

namespace lathe {

/// Columns stand in the order in which they are rounded.
struct SpqrProblem {
  at::Tensor weight;  // Float or Double [rows, in], contiguous; used up
  at::Tensor factor;  // U of weight's type [in, in], upper triangular: H^-1 = U^T U
  Scheme scheme;      // its groups of at most 128 columns
  OutlierRule rule = OutlierRule::refined;
  at::Tensor thresholds;     // of weight's type [rows], on the loss that keeping a weight saves
  int64_t block_size = 128;  // columns between two updates of all later ones
};

struct SpqrColumns {
  at::Tensor codes;          // Byte [rows, in], 0 .. 2^bits - 1
  at::Tensor kept;           // [rows, in]: what the code's value lacks of a weight that is kept, else 0; in
                             // the problem's weight's place
  at::Tensor scales, zeros;  // Float [rows, groups]
  SecondLevel level;
  at::Tensor loss;  // Double [rows]: each row's d H d^T, but for the rounding of what is kept to FP16
};

/// Deterministic, whatever the number of threads; block_size changes results by rounding only.
SpqrColumns spqr_columns(SpqrProblem problem);

/// What a relative threshold is relative to: the mean over columns of var(W_j) / U_jj^2, the loss of setting
/// a weight to its mean.
double spqr_loss_scale(const at::Tensor& weight, const at::Tensor& factor);

/// The threshold that a share of the weights lies above with their leave-one-out gains, as they stand before
/// any is rounded. density: above 0.
double spqr_threshold(const at::Tensor& weight, const at::Tensor& factor, const Scheme& scheme,
                      double density);

}  // namespace lathe
