// GPTQ's column loop over a block of columns: each column is rounded to its grid, and the columns after it in
// the block make up for the error (Frantar et al., arXiv 2210.17323, algorithm 1, the inner loop).
#pragma once

#include "lib/kernels/gptq_block_rows.h"
#include "lib/kernels/group_quant.h"

namespace lathe::kernels {

/// For j = 0 .. columns - 1, in every row:
///   codes[j] = the code of w[j];  errors[j] = (w[j] - its value) / U[j, j];  w[k] -= errors[j] * U[j, k] for
///   k > j.
/// `weight` itself is left as it is; the columns after the block are the caller's: w -= errors U[block, :].
///
/// weight, errors: [rows, columns] of one type, Float or Double; factor: U's diagonal block [columns,
/// columns] of that type; codes: Char [rows, columns]. These four may be parts of larger matrices (rows apart
/// by any stride). params: of all groups, [rows, groups], with scales that weights are divided by: steps_of()
/// where there is a global one; column_group: Int [columns], the group of each column. columns <=
/// kGptqColumns.
void gptq_block(const at::Tensor& weight, const at::Tensor& factor, const GroupParams& params,
                const at::Tensor& column_group, const Scheme& scheme, const at::Tensor& codes,
                const at::Tensor& errors);

}  // namespace lathe::kernels
