// The factor of a Hessian's inverse that error feedback needs (GPTQ, SpQR), with damping, and what is done
// where the Hessian can't be factorised.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace lathe {

/// U, upper triangular, positive on its diagonal, with A^-1 = U^T U; nothing where A is not positive definite
/// to the precision of its type. A: symmetric [n, n], Float or Double, contiguous; used up, U takes its
/// place.
///
/// From a Cholesky factorisation in reverse order, A = R R^T with R upper triangular, and one triangular
/// inverse, U = R^-1. That is 2/3 n^3 FLOPs; inverting A from its Cholesky factor and factorising that again,
/// as the paper's code does, takes 4/3 n^3. The same bits for any number of threads.
std::optional<at::Tensor> inverse_factor(at::Tensor matrix);

/// A damped Hessian's factor.
struct DampedFactor {
  at::Tensor upper;                 // Float [n, n]
  double damping = 0;               // in parts of the diagonal's mean
  bool diagonal = false;            // only the diagonal was inverted: no column makes up for another
  std::vector<std::string> events;  // what was not done as asked, for the report
};

/// Channels of a Gram matrix that count as if they had a diagonal element of their own and no correlation.
struct Uncorrelated {
  at::Tensor channels;  // Bool [n]; undefined: none
  at::Tensor diagonal;  // Float [n], read where `channels` is true
};

/// Of gram + damping * mean(diagonal) * I. Where that fails: twice, four, ... times the damping (a tenth of a
/// percent at least), up to kDampingSteps times; then the damping that was asked for, in FP64; then its
/// diagonal alone. The event names each step. gram: Float [n, n], symmetric, finite, its diagonal > 0 but for
/// the `uncorrelated`; order: Long [n], of its rows and columns in the factor.
DampedFactor damped_inverse_factor(const at::Tensor& gram, const at::Tensor& order, double damping,
                                   const Uncorrelated& uncorrelated = {});

/// Bytes at most that it takes beside the Gram matrix, the factor included, whichever step gives it.
uint64_t damped_inverse_factor_bytes(int64_t width);

constexpr int kDampingSteps = 4;

}  // namespace lathe
