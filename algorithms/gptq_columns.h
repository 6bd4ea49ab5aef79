// GPTQ's rounding of a matrix, column by column, given a factor of the inverse Hessian and the groups' grids:
// the part of gptq.cc that takes the time.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "lib/kernels/group_quant.h"

namespace lathe {

/// Columns stand in the order in which they are rounded.
struct ColumnProblem {
  at::Tensor weight;        // Float or Double [rows, in], contiguous; used up
  at::Tensor factor;        // U of weight's type [in, in], upper triangular: H^-1 = U^T U
  at::Tensor column_group;  // Int [in]: the group of each column
  Scheme scheme;
  kernels::GroupParams params;  // [rows, groups]: the grids, or where `grid` is given the room for them
  /// Where given: the grid [rows, 1] of a group, chosen when its first column is reached, from its weights as
  /// they are then (Float [rows, length], contiguous); `first` is its first column. Groups' columns then come
  /// one after the other.
  std::function<kernels::GroupParams(const at::Tensor& weight, int64_t first)> grid;
  int64_t block_size = 128;  // columns between two updates of all later ones
  /// Where these are some rows of a larger problem: how many it has; 0: these are all. Rows get the same bits
  /// whatever part of it is solved at a time, if parts begin at multiples of part_rows().
  int64_t whole = 0;
};

struct RoundedColumns {
  at::Tensor codes;  // Char [rows, in], in the problem's order
  kernels::GroupParams params;
  /// Double [rows]: each row's d H d^T, d = W - Q, H = (U^T U)^-1, summed up on the way: with E the errors
  /// divided by the pivots, d = E U, so d H d^T = E U H U^T E^T = E E^T.
  at::Tensor loss;
};

/// Deterministic, whatever the number of threads; block_size changes results by rounding only.
RoundedColumns round_columns(ColumnProblem problem);

}  // namespace lathe
