// The Hadamard transform that QuIP# and QTIP rotate weights with: U = (H_k (x) S) / sqrt(n), n = k 2^m, where
// S is Sylvester's matrix of order 2^m and H_k the constant one of the largest order k that divides n (k = 1:
// S alone). Orthogonal.
// Source: quip-sharp, lib/utils/matmul_had.py, get_hadK and matmul_hadU; with k = 1 compressed-tensors,
// transform/utils/hadamard.py, deterministic_hadamard_matrix (which leaves out the root).
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

namespace lathe {

/// Is there such a U of order n?
bool has_hadamard(int64_t n);

/// U x for each row x of Float [rows, n], CPU, contiguous; in place or a new tensor. InternalError where
/// there is no U.
at::Tensor hadamard_rows(at::Tensor rows);

/// Orders of the blocks that inputs of linears are rotated in.
inline constexpr std::array<int64_t, 4> kHadamardBlocks = {16, 32, 64, 128};

/// x H, where H has U of order `block`, a power of two that divides x's last dimension, on its diagonal: for
/// weights [out, in] along `in`, for inputs [..., in]. H is symmetric and its own inverse. FP32 of x's shape
/// on its device, a new tensor; the same bits on every device, whatever rows come together.
at::Tensor hadamard_blocks(const at::Tensor& x, int64_t block);

/// The same of a contiguous Float tensor that nobody needs any more: on the CPU in its memory.
at::Tensor hadamard_blocks_of(at::Tensor x, int64_t block);

}  // namespace lathe
