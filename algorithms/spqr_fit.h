// What SpQR decides about one group of columns before they are rounded: which weights the group's grid need
// not span, and its scales and zeros on the second level's grids. Tensors in, tensors out, in FP32 (or FP64),
// on any device.
#pragma once

#include <ATen/core/Tensor.h>

#include "lib/numeric/quantized_tensor.h"

namespace lathe {

/// By how much a group's squared error falls when one of its weights is left out and the grid fitted to the
/// others (algorithm 1's `outliers`). group: [rows, length]; inverse_pivots: 1 / U[j, j], [length]. [rows,
/// length]. Three fits a group instead of length + 1: leaving out a weight changes the grid only where it is
/// the least or the largest.
at::Tensor spqr_leave_one_out(const at::Tensor& group, const at::Tensor& inverse_pivots, int bits);

/// Scales and zeros of one group, [rows]: value = scale * (code - zero), codes 0 .. 2^bits - 1.
struct SpqrGrid {
  at::Tensor scales, zeros;
};

/// Grids that span 0 and the group's weights but those where `left_out` (Bool [rows, length], or undefined)
/// is true. A scale of 0 where no weight differs from 0.
SpqrGrid spqr_fit(const at::Tensor& group, const at::Tensor& left_out, int bits);

/// Puts the grids on the second level: scales and zeros become the values of its codes, computed in FP16 as
/// the consumer does; what they are made of goes to `column` of `level`. A scale that FP16 can't hold becomes
/// infinite: the caller's to refuse.
void spqr_second_level(SpqrGrid& grid, const ScaleGrid& scheme, int64_t column, SecondLevel& level);

}  // namespace lathe
