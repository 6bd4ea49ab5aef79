// The factor of a Hessian's inverse that error feedback needs (GPTQ, SpQR), with damping, and what is done
// where the Hessian can't be factorised.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace lathe {

class GramPlace;

/// Halves need a quarter of the matrix beside it. Where that would be beyond half a GiB, in matrices wider
/// than `wide`, what is factorised first is `step` columns at a time, until the rest, `halved` at most, is
/// halved with as little.
struct FactorSteps {
  int64_t wide = 24'576, step = 2048, halved = 14'336;
};

/// U, upper triangular, positive on its diagonal, with A^-1 = U^T U; nothing where A is not positive definite
/// to the precision of its type. A: symmetric [n, n], Float or Double, contiguous; used up, U takes its
/// place.
///
/// From a Cholesky factorisation in reverse order, A = R R^T with R upper triangular, and one triangular
/// inverse, U = R^-1. That is 2/3 n^3 FLOPs; inverting A from its Cholesky factor and factorising that again,
/// as the paper's code does, takes 4/3 n^3. The same bits for any number of threads.
std::optional<at::Tensor> inverse_factor(at::Tensor matrix, const FactorSteps& steps = {});

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

/// The same, bit for bit, in the Gram matrix's place, which waits in a file.
DampedFactor damped_inverse_factor(GramPlace& place, double damping, const Uncorrelated& uncorrelated = {});

/// Bytes at most that it takes beside the Gram matrix, the factor included, whichever step gives it.
uint64_t damped_inverse_factor_bytes(int64_t width);

/// Bytes at most beside the matrix whose place it takes, and of the file.
struct FactorBytes {
  uint64_t memory = 0, file = 0;
};
FactorBytes inverse_factor_in_place_bytes(int64_t width);

constexpr int kDampingSteps = 4;

}  // namespace lathe
