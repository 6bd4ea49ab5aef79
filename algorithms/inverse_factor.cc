#include "algorithms/inverse_factor.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/tensor/matrix_product.h"

namespace lathe {
namespace {

/// Columns of a panel. LAPACK's factorisation of larger blocks depends on the number of threads; GEMMs and
/// triangular solves with many right-hand sides don't.
constexpr int64_t kPanel = 128;

/// Triangles up to this size are inverted by a solve with the identity.
constexpr int64_t kLeaf = 256;

/// A diagonal block's R, upper triangular, R R^T = block; counts it in `failures` where there is none.
at::Tensor reverse_cholesky_block(const at::Tensor& block, at::Tensor& failures) {
  const auto [lower, info] = at::linalg_cholesky_ex(block.flip({0, 1}));
  failures.add_(info.ne(0));
  return lower.flip({0, 1});
}

/// R in place of A, upper triangular, A = R R^T: Cholesky factorisation from the last panel of columns to the
/// first, each taking off what the panels behind it stand for. n^3 / 3 FLOPs. False where A isn't positive
/// definite (what is in its place then means nothing).
bool reverse_cholesky(at::Tensor a) {
  at::Tensor failures = at::zeros({}, a.options().dtype(at::kInt));
  const int64_t n = a.size(0);
  for (int64_t end = n; end > 0; end -= kPanel) {
    throw_if_cancelled();
    const int64_t first = std::max<int64_t>(0, end - kPanel);
    at::Tensor panel = a.slice(0, 0, end).slice(1, first, end);
    if (end < n) {
      add_matrix_product(panel, a.slice(0, 0, end).slice(1, end), a.slice(0, first, end).slice(1, end).t(),
                         -1);
    }
    at::Tensor corner = panel.slice(0, first);
    corner.copy_(reverse_cholesky_block(corner, failures));
    if (first == 0) break;
    at::Tensor above = panel.slice(0, 0, first);
    solve_triangle_right(corner.t(), /*upper=*/false, above);
  }
  a.triu_();
  return failures.item<int>() == 0;
}

/// R^-1 in place of R, upper triangular. [A B; 0 D]^-1 = [A^-1, -A^-1 B D^-1; 0, D^-1]: two triangular solves
/// with half the size at each level, n^3 / 3 FLOPs in all. (ATen has no triangular inverse; solving with the
/// whole identity takes n^3.)
void invert_upper(at::Tensor r) {
  const int64_t n = r.size(0);
  if (n <= kLeaf) {
    const at::Tensor inverse = at::eye(n, r.options());
    solve_triangle_left(r, /*upper=*/true, inverse);
    r.copy_(inverse);
    return;
  }
  throw_if_cancelled();
  const int64_t half = n / 2;
  const at::Tensor a = r.slice(0, 0, half).slice(1, 0, half), d = r.slice(0, half).slice(1, half);
  at::Tensor b = r.slice(0, 0, half).slice(1, half);
  solve_triangle_left(a, /*upper=*/true, b);
  solve_triangle_right(d, /*upper=*/true, b);
  b.neg_();
  invert_upper(a);
  invert_upper(d);
}

/// A pivot within the rounding errors of its diagonal element is noise. (Relative to its own element:
/// Cholesky factorisation doesn't care how rows and columns are scaled.)
bool well_above_rounding(const at::Tensor& factor, const at::Tensor& diagonal) {
  const double epsilon = diagonal.scalar_type() == at::kFloat ? std::numeric_limits<float>::epsilon()
                                                              : std::numeric_limits<double>::epsilon();
  const at::Tensor pivots = factor.diagonal().square();
  return (pivots > diagonal * (2 * epsilon)).all().item<bool>();  // false for a NaN, too
}

at::Tensor damped(const at::Tensor& gram, double damping, at::ScalarType type) {
  at::Tensor matrix = gram.to(type, /*non_blocking=*/false, /*copy=*/true);
  at::Tensor diagonal = matrix.diagonal();
  diagonal.add_(diagonal.to(at::kDouble).mean().item<double>() * damping);
  return matrix;
}

}  // namespace

std::optional<at::Tensor> inverse_factor(at::Tensor matrix) {
  LATHE_ASSERT(matrix.dim() == 2 && matrix.size(0) == matrix.size(1) && matrix.is_contiguous(),
               "inverse factor of a {} x {} matrix", matrix.size(0), matrix.size(-1));
  const at::Tensor diagonal = matrix.diagonal().clone();
  if (!reverse_cholesky(matrix) || !well_above_rounding(matrix, diagonal)) return std::nullopt;
  invert_upper(matrix);
  if (!at::isfinite(matrix).all().item<bool>()) return std::nullopt;
  return matrix;
}

DampedFactor damped_inverse_factor(const at::Tensor& gram, double damping) {
  DampedFactor result{.upper = {}, .damping = damping, .diagonal = false, .events = {}};
  double tried = damping;
  for (int step = 0; step <= kDampingSteps; ++step) {
    if (const auto upper = inverse_factor(damped(gram, tried, at::kFloat))) {
      result.upper = *upper;
      result.damping = tried;
      if (step > 0) {
        result.events.push_back(fmt::format(
            "the Hessian could not be factorised with damping {:g}: damping raised to {:g}", damping, tried));
      }
      return result;
    }
    tried = std::max(2 * tried, 0.001);
  }
  if (const auto upper = inverse_factor(damped(gram, damping, at::kDouble))) {
    result.upper = upper->to(at::kFloat);
    result.events.push_back(fmt::format(
        "the Hessian could not be factorised in FP32, with damping up to {:g}: factorised in FP64 with {:g}",
        tried / 2, damping));
    return result;
  }
  result.upper = at::diag(damped(gram, damping, at::kDouble).diagonal().rsqrt()).to(at::kFloat);
  result.diagonal = true;
  result.events.push_back(fmt::format(
      "the Hessian could not be factorised, with damping up to {:g} nor in FP64: only its diagonal was used, "
      "so that weights were rounded without making up for each other's errors",
      tried / 2));
  return result;
}

}  // namespace lathe
