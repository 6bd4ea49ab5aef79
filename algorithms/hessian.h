// The Hessian of one linear input as error feedback needs it (GPTQ, SpQR): channels without signal taken care
// of, and the factor of its inverse for an order of the columns.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "algorithms/algorithm.h"
#include "algorithms/gram_place.h"
#include "algorithms/inverse_factor.h"

namespace lathe {

class Hessian {
 public:
  /// gram: Float [in, in], symmetric. A channel that never carried a signal (diag(H) <= 0) gets the others'
  /// mean as its diagonal, and no correlation. UserError naming `linear` where it is not finite.
  /// lent: may its place hold the factor?
  Hessian(const std::string& linear, const at::Tensor& gram, double damping,
          const std::optional<LentGram>& lent = std::nullopt);

  int64_t dead_count() const { return dead_count_; }
  const at::Tensor& dead() const { return dead_; }  // Bool [in]
  /// Float [in], > 0.
  const at::Tensor& diagonal() const { return diagonal_; }

  /// What its making means for the weights: the factor's own events, and channels without signal.
  std::vector<std::string> events(const DampedFactor& factor) const;
  /// What is taken while a factor is made, beside the Gram matrix.
  static uint64_t factor_bytes(int64_t width) { return damped_inverse_factor_bytes(width); }
  /// FLOPs of one: a third of n^3 for the factorisation, as much for the triangle's inverse.
  static double factor_flops(int64_t width) {
    const auto n = static_cast<double>(width);
    return 2 * n * n * n / 3;
  }

  /// The factor for columns in this order (Long [in]); orders of one key are the same. In the place of a Gram
  /// matrix that was lent until another is asked for, or give_back().
  const DampedFactor& factor(int64_t key, const at::Tensor& order);
  /// A Gram matrix that was lent is what it was again, and no factor is left.
  void give_back();

 private:
  void revive();

  at::Tensor gram_, diagonal_, dead_;
  double damping_;
  std::optional<LentGram> lent_;
  std::optional<GramPlace> place_;
  int64_t dead_count_ = 0;
  std::map<int64_t, DampedFactor> factors_;
};

}  // namespace lathe
