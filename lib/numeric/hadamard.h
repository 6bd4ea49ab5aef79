// The Hadamard transform that QuIP# and QTIP rotate weights with: U = (H_k (x) S) / sqrt(n), n = k 2^m, where
// S is Sylvester's matrix of order 2^m and H_k the constant one of the largest order k that divides n (k = 1:
// S alone). Orthogonal.
// Source: quip-sharp, lib/utils/matmul_had.py, get_hadK and matmul_hadU.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace lathe {

/// Is there such a U of order n?
bool has_hadamard(int64_t n);

/// U x for each row x of Float [rows, n], CPU, contiguous; in place or a new tensor. InternalError where
/// there is no U.
at::Tensor hadamard_rows(at::Tensor rows);

}  // namespace lathe
