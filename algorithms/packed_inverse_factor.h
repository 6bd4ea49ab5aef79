// The factor of a Hessian's inverse in FP64, in the memory of a full FP32 matrix: the last resort of
// damped_inverse_factor(), which a plan must leave room for though hardly a run takes it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>

namespace lathe {

/// Rows [first, end) of a symmetric matrix from the diagonal block on: Double [end - first, size - first],
/// contiguous, the caller's no more.
using TriangleRows = std::function<at::Tensor(int64_t first, int64_t end)>;

/// inverse_factor() of a matrix [size, size] that is given by rows, computed in FP64: U, Float [size, size];
/// nothing where the matrix is not positive definite to FP64's precision.
///
/// The upper triangle is held in panels of rows, in which R and then U take A's place (2/3 n^3 FLOPs). A
/// panel is let go when its place in the result is written.
std::optional<at::Tensor> packed_inverse_factor(int64_t size, const TriangleRows& rows);

/// Bytes at most that it takes, U included.
uint64_t packed_inverse_factor_bytes(int64_t size);

}  // namespace lathe
