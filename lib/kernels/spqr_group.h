// SpQR's column loop over one group of columns: each column is rounded to its row's grid, or kept beside it,
// and the columns after it in the group make up for the error (Dettmers et al., arXiv 2306.03078, algorithm
// 1, lines 10 to 14).
#pragma once

#include <ATen/core/Tensor.h>

namespace lathe::kernels {

struct SpqrGroupTensors {
  at::Tensor weight;                     // [rows, columns], left as it is
  at::Tensor factor;                     // U's diagonal block, [columns, columns]
  at::Tensor scales, zeros, thresholds;  // [rows]
  at::Tensor marked;                     // Bool [rows, columns], contiguous; or undefined
  at::Tensor codes;                      // Byte [rows, columns]
  at::Tensor errors, kept;               // [rows, columns]
};

/// What device/spqr_group.cuh says, for all rows. Numbers are of one type, Float or Double; matrices may be
/// parts of larger ones (rows apart by any stride). At most kSpqrColumns columns; bits: 2 to 8. The columns
/// after the group are the caller's: w -= errors U[group, :].
void spqr_group(const SpqrGroupTensors& group, int bits);

}  // namespace lathe::kernels
