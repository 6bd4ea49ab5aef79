#include "algorithms/inverse_factor.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "algorithms/gram_place.h"
#include "algorithms/packed_inverse_factor.h"
#include "algorithms/solver_fallback.h"
#include "lib/base/cancel.h"
#include "lib/base/checked.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"
#include "lib/kernels/permute.h"
#include "lib/tensor/aten.h"
#include "lib/tensor/matrix_product.h"
#include "lib/tensor/triangle_file.h"

namespace lathe {
namespace {

/// How the work is cut.
struct Cut {
  int64_t leaf;  // blocks up to this size are factorised by LAPACK or cuSOLVER
  int64_t band;  // columns or rows of a triangular operand multiplied at once: half of a diagonal block's
                 // work is wasted
};

/// How a matrix [n, n] is cut: columns of A11, and values of R12 at most.
int64_t first_part(int64_t n, int64_t halved, const FactorSteps& steps) {
  return n > halved ? n - steps.step : n / 2;
}
int64_t scratch_values(int64_t n, const FactorSteps& steps) {
  const int64_t half = ceil_div(n > steps.wide ? steps.halved : n, int64_t{2});
  return std::max(half * half, n > steps.wide ? (n - steps.step) * steps.step : 0);
}

/// LAPACK's factorisation of larger blocks depends on the number of threads; products of matrices don't.
constexpr Cut kCpuCut{128, 256};

/// Small blocks leave a GPU waiting for calls of its libraries.
constexpr Cut kGpuCut{1024, 512};

/// Factor and inverse of one block after the other, from the last to the first:
///
///   A = [A11 A12; A12^T A22], R = [R11 R12; 0 R22], A = R R^T
///   R22, R22^-1 of A22;  R12 = A12 R22^-T;  R11, R11^-1 of A11 - R12 R12^T;  above the diagonal of R^-1:
///   -R11^-1 R12 R22^-1
///
/// Only products, which libraries run at a higher rate than triangular solves: the 2/3 n^3 FLOPs of a
/// factorisation and an inversion, and what the diagonal blocks of the bands waste. Overwrites A with R^-1;
/// the pivots, the diagonal of R, are kept apart.
class ReverseCholesky {
 public:
  ReverseCholesky(at::Tensor a, const FactorSteps& steps)
      : cut_(a.is_cpu() ? kCpuCut : kGpuCut),
        steps_(steps),
        halved_(a.size(0) > steps.wide ? steps.halved : a.size(0)),
        pivots_(at::empty({a.size(0)}, a.options())),
        failures_(at::zeros({}, a.options().dtype(at::kInt))) {
    scratch_ = at::empty({scratch_values(a.size(0), steps)}, a.options());
    invert(a, pivots_);
  }

  /// Was each block positive definite? If not, A's place and the pivots mean nothing.
  bool succeeded() const { return failures_.item<int>() == 0; }
  const at::Tensor& pivots() const { return pivots_; }

 private:
  /// Reads the upper triangle of `a` alone; writes zeros below the diagonal.
  void invert(const at::Tensor& a, const at::Tensor& pivots) {
    throw_if_cancelled();
    const int64_t n = a.size(0);
    if (n <= cut_.leaf) return invert_leaf(a, pivots);
    const int64_t half = first_part(n, halved_, steps_);
    const at::Tensor a11 = a.slice(0, 0, half).slice(1, 0, half), a12 = a.slice(0, 0, half).slice(1, half),
                     a22 = a.slice(0, half).slice(1, half);
    invert(a22, pivots.slice(0, half));
    const int64_t stride = n > halved_ ? n - half : ceil_div(halved_, int64_t{2});
    const at::Tensor r12 = scratch_.as_strided({half, n - half}, {stride, 1});
    times_transposed_triangle(r12, a12, a22);
    subtract_square(a11, r12);
    times_triangle(a12, r12, a22);
    invert(a11, pivots.slice(0, 0, half));
    minus_triangle_times(r12, a11, a12);
    a12.copy_(r12);
    a.slice(0, half).slice(1, 0, half).zero_();
  }
  void invert_leaf(const at::Tensor& a, const at::Tensor& pivots) {
    const auto [lower, info] = at::linalg_cholesky_ex(a.flip({0, 1}));  // reads what was above the diagonal
    failures_.add_(info.ne(0));
    const at::Tensor upper = lower.flip({0, 1});
    pivots.copy_(upper.diagonal());
    a.copy_(at::linalg_solve_triangular(upper, at::eye(a.size(0), a.options()), /*upper=*/true));
  }

  /// out = b t^T, t upper triangular.
  void times_transposed_triangle(const at::Tensor& out, const at::Tensor& b, const at::Tensor& t) const {
    for_bands(t.size(0), [&](int64_t first, int64_t end) {
      set_matrix_product(out.slice(1, first, end), b.slice(1, first),
                         t.slice(0, first, end).slice(1, first).t());
    });
  }

  /// out = b t.
  void times_triangle(const at::Tensor& out, const at::Tensor& b, const at::Tensor& t) const {
    for_bands(t.size(0), [&](int64_t first, int64_t end) {
      set_matrix_product(out.slice(1, first, end), b.slice(1, 0, end),
                         t.slice(0, 0, end).slice(1, first, end));
    });
  }

  /// out = -t b.
  void minus_triangle_times(const at::Tensor& out, const at::Tensor& t, const at::Tensor& b) const {
    for_bands(t.size(0), [&](int64_t first, int64_t end) {
      set_matrix_product(out.slice(0, first, end), t.slice(0, first, end).slice(1, first), b.slice(0, first),
                         -1);
    });
  }

  /// a -= b b^T, on and above the diagonal (and in the bands' diagonal blocks).
  void subtract_square(const at::Tensor& a, const at::Tensor& b) const {
    for_bands(a.size(0), [&](int64_t first, int64_t end) {
      add_matrix_product(a.slice(0, first, end).slice(1, first), b.slice(0, first, end),
                         b.slice(0, first).t(), -1);
    });
  }

  template <class F>
  void for_bands(int64_t size, F&& f) const {
    for (int64_t first = 0; first < size; first += cut_.band) f(first, std::min(size, first + cut_.band));
  }

  Cut cut_;
  FactorSteps steps_;
  int64_t halved_;  // blocks up to this size are halved
  at::Tensor pivots_, failures_, scratch_;
};

/// A pivot within the rounding errors of its diagonal element is noise. (Relative to its own element:
/// Cholesky factorisation doesn't care how rows and columns are scaled.)
bool well_above_rounding(const at::Tensor& pivots, const at::Tensor& diagonal) {
  const double epsilon = diagonal.scalar_type() == at::kFloat ? std::numeric_limits<float>::epsilon()
                                                              : std::numeric_limits<double>::epsilon();
  return (pivots.square() > diagonal * (2 * epsilon)).all().item<bool>();  // false for a NaN, too
}

/// A Gram matrix with its rows and columns in an order.
class OrderedGram {
 public:
  virtual ~OrderedGram() = default;
  /// Float [n, n], for the caller to change.
  virtual at::Tensor matrix() = 0;
  /// Rows [first, end) from column `first` on, Float, the caller's.
  virtual at::Tensor rows(int64_t first, int64_t end) = 0;
  /// The last matrix() was of no use: another factor is made, from rows().
  virtual void drop_matrix() {}
  /// Takes that factor in, and gives it.
  virtual at::Tensor keep(at::Tensor factor) { return factor; }
};

class CopiedGram final : public OrderedGram {
 public:
  CopiedGram(const at::Tensor& gram, const at::Tensor& order) : gram_(gram), order_(order) {}
  at::Tensor matrix() override { return kernels::permuted_both_ways(gram_, order_); }
  at::Tensor rows(int64_t first, int64_t end) override {
    return gram_.index_select(0, order_.slice(0, first, end)).index_select(1, order_.slice(0, first));
  }

 private:
  const at::Tensor &gram_, &order_;
};

class GramInFile final : public OrderedGram {
 public:
  explicit GramInFile(GramPlace& place) : place_(place) {}
  at::Tensor matrix() override { return place_.matrix(); }
  at::Tensor rows(int64_t first, int64_t end) override { return place_.rows(first, end); }
  void drop_matrix() override { place_.leave(); }
  at::Tensor keep(at::Tensor factor) override { return place_.take(std::move(factor)); }

 private:
  GramPlace& place_;
};

/// Some of its channels uncorrelated, and its diagonal damped.
class DampedMatrix {
 public:
  /// diagonal: the Gram matrix's, in its own order.
  DampedMatrix(OrderedGram& gram, const at::Tensor& diagonal, const at::Tensor& order,
               const Uncorrelated& uncorrelated)
      : gram_(gram), diagonal_(diagonal.index_select(0, order)) {
    if (!uncorrelated.channels.defined()) return;
    apart_ = uncorrelated.channels.index_select(0, order);
    diagonal_ = at::where(apart_, uncorrelated.diagonal.index_select(0, order), diagonal_);
  }

  at::Tensor in_fp32(double damping) const {
    at::Tensor matrix = gram_.matrix();
    separate(matrix, apart_, apart_);
    at::Tensor diagonal = matrix.diagonal();
    diagonal.copy_(diagonal_).add_(mean() * damping);
    return matrix;
  }

  /// Double [n].
  at::Tensor diagonal(double damping) const { return diagonal_.to(at::kDouble).add_(mean() * damping); }

  TriangleRows in_fp64(double damping) const {
    return [this, diagonal = diagonal(damping)](int64_t first, int64_t end) {
      at::Tensor part = gram_.rows(first, end).to(at::kDouble);
      if (apart_.defined()) separate(part, apart_.slice(0, first, end), apart_.slice(0, first));
      part.slice(1, 0, end - first).diagonal().copy_(diagonal.slice(0, first, end));
      return part;
    };
  }

 private:
  double mean() const { return diagonal_.to(at::kDouble).mean().item<double>(); }
  static void separate(at::Tensor& matrix, const at::Tensor& rows, const at::Tensor& columns) {
    if (!rows.defined()) return;
    matrix.masked_fill_(rows.unsqueeze(1), 0).masked_fill_(columns.unsqueeze(0), 0);
  }

  OrderedGram& gram_;
  at::Tensor diagonal_, apart_;
};

/// The ladder.
DampedFactor factor_of(OrderedGram& gram, const DampedMatrix& damped, int64_t size, double damping) {
  DampedFactor result{.upper = {}, .damping = damping, .diagonal = false, .events = {}};
  double tried = damping;
  std::vector<std::string> failed;
  for (int step = 0; step <= kDampingSteps; ++step) {
    if (const auto upper = inverse_factor(damped.in_fp32(tried))) {
      result.upper = *upper;
      result.damping = tried;
      if (step > 0) {
        result.events.push_back(raised_damping(join_words(failed), tried));
      }
      return result;
    }
    failed.push_back(fmt::format("{:g}", tried));
    tried = std::max(2 * tried, 0.001);
  }
  gram.drop_matrix();
  if (const auto upper = packed_inverse_factor(size, damped.in_fp64(damping))) {
    result.upper = gram.keep(*upper);
    result.events.push_back(fmt::format(
        "the Hessian could not be factorised in FP32 with damping {}: factorised in FP64 with {:g}",
        join_words(failed), damping));
    return result;
  }
  result.upper = gram.keep(at::diag(damped.diagonal(damping).rsqrt_().to(at::kFloat)));
  result.diagonal = true;
  result.events.push_back(diagonal_only(join_words(failed), damping));
  return result;
}

}  // namespace

std::optional<at::Tensor> inverse_factor(at::Tensor matrix, const FactorSteps& steps) {
  LATHE_ASSERT(matrix.dim() == 2 && matrix.size(0) == matrix.size(1) && matrix.is_contiguous(),
               "inverse factor of a {} x {} matrix", matrix.size(0), matrix.size(-1));
  const at::Tensor diagonal = matrix.diagonal().clone();
  const ReverseCholesky factorised(matrix, steps);
  if (!factorised.succeeded() || !well_above_rounding(factorised.pivots(), diagonal)) return std::nullopt;
  if (!all_finite(matrix)) return std::nullopt;
  return matrix;
}

DampedFactor damped_inverse_factor(const at::Tensor& gram, const at::Tensor& order, double damping,
                                   const Uncorrelated& uncorrelated) {
  CopiedGram copied(gram, order);
  return factor_of(copied, DampedMatrix(copied, gram.diagonal(), order, uncorrelated), gram.size(0), damping);
}

DampedFactor damped_inverse_factor(GramPlace& place, double damping, const Uncorrelated& uncorrelated) {
  GramInFile gram(place);
  return factor_of(gram, DampedMatrix(gram, place.diagonal(), place.order(), uncorrelated),
                   place.diagonal().numel(), damping);
}

uint64_t damped_inverse_factor_bytes(int64_t width) {
  const auto n = static_cast<uint64_t>(width), scratch = static_cast<uint64_t>(scratch_values(width, {}));
  return std::max((n * n + scratch) * sizeof(float), packed_inverse_factor_bytes(width));
}

FactorBytes inverse_factor_in_place_bytes(int64_t width) {
  const auto n = static_cast<uint64_t>(width), scratch = static_cast<uint64_t>(scratch_values(width, {}));
  const uint64_t packed = packed_inverse_factor_bytes(width), matrix = n * n * sizeof(float);
  const uint64_t last_resort = packed > matrix ? packed - matrix : 0;
  return {std::max({scratch * sizeof(float), last_resort, TriangleFile::buffer_bytes(width)}),
          TriangleFile::bytes(width)};
}

}  // namespace lathe
