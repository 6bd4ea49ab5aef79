// Matrices with their columns, or rows and columns, in another order. ATen's index_select copies along the
// last dimension on one thread.
#pragma once

#include <ATen/core/Tensor.h>

namespace lathe::kernels {

/// matrix[:, order] in place of `matrix` [rows, columns], contiguous, any dtype and device. order: Long
/// [columns], a permutation, on the same device.
void permute_columns(const at::Tensor& matrix, const at::Tensor& order);

/// A copy of matrix[order, order]. matrix: [n, n], its last dimension contiguous; order: Long [n].
at::Tensor permuted_both_ways(const at::Tensor& matrix, const at::Tensor& order);

/// The same in the matrix's own place: [n, n], contiguous; on the CPU with the room of a row or two beside.
void permute_both_ways(const at::Tensor& matrix, const at::Tensor& order);

}  // namespace lathe::kernels
