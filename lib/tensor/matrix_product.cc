#include "lib/tensor/matrix_product.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <optional>

#include "lib/base/checked.h"
#include "lib/base/error.h"
#include "lib/tensor/openblas.h"

namespace lathe {
namespace {

/// Rows and columns of a tile: what a thread packs for one is small beside what it computes with it, and
/// there are tiles enough for all threads.
constexpr int64_t kTile = 512;

const OpenBlas* library_for(const at::Tensor& a, const at::Tensor& b) {
  const bool fp32 = a.scalar_type() == at::kFloat && b.scalar_type() == at::kFloat;
  return fp32 && a.is_cpu() && b.is_cpu() ? OpenBlas::instance() : nullptr;
}

/// A view as BLAS can read it, or none.
std::optional<BlasOperand> view_of(const at::Tensor& matrix) {
  const int64_t rows = matrix.size(0), columns = matrix.size(1);
  const auto* const data = matrix.const_data_ptr<float>();
  if (matrix.stride(1) == 1 || columns == 1) {
    const int64_t stride = rows == 1 ? columns : matrix.stride(0);
    if (stride >= std::max<int64_t>(1, columns)) return BlasOperand{data, stride, false};
  }
  if (matrix.stride(0) == 1 || rows == 1) {
    const int64_t stride = columns == 1 ? rows : matrix.stride(1);
    if (stride >= std::max<int64_t>(1, rows)) return BlasOperand{data, stride, true};
  }
  return std::nullopt;
}

/// An operand, copied where its view is none of BLAS's.
struct Operand {
  explicit Operand(const at::Tensor& matrix) : kept(matrix) {
    std::optional<BlasOperand> found = view_of(kept);
    if (!found) {
      kept = matrix.contiguous();
      found = view_of(kept);
      LATHE_ASSERT(found.has_value(), "a contiguous matrix is no operand of BLAS");
    }
    view = *found;
  }

  BlasOperand from(int64_t row, int64_t column) const {
    BlasOperand part = view;
    part.data += view.transposed ? column * view.stride + row : row * view.stride + column;
    return part;
  }

  at::Tensor kept;
  BlasOperand view;
};

/// Calls f(row, row_end, column, column_end) for all tiles of an [m, n] matrix, on all threads.
template <class F>
void for_tiles(int64_t m, int64_t n, F&& f) {
  const int64_t down = ceil_div(m, kTile), across = ceil_div(n, kTile);
  at::parallel_for(0, down * across, 1, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      // Neighbours share the columns of b, of which more is packed in a product of weights.
      const int64_t row = tile % down * kTile, column = tile / down * kTile;
      f(row, std::min(m, row + kTile), column, std::min(n, column + kTile));
    }
  });
}

bool rows_apart(const at::Tensor& out) {
  return out.stride(1) == 1 && (out.size(0) == 1 || out.stride(0) >= out.size(1));
}

/// out = factor a b + beta out.
void multiply(const OpenBlas& blas, const at::Tensor& out, const at::Tensor& a, const at::Tensor& b,
              float factor, float beta) {
  const int64_t m = a.size(0), k = a.size(1), n = b.size(1);
  LATHE_ASSERT(b.size(0) == k && out.size(0) == m && out.size(1) == n, "[{}, {}] x [{}, {}] into [{}, {}]", m,
               k, b.size(0), n, out.size(0), out.size(1));
  if (m == 0 || n == 0) return;
  const Operand left(a), right(b);
  auto* const data = out.data_ptr<float>();
  const int64_t stride = m == 1 ? n : out.stride(0);
  for_tiles(m, n, [&](int64_t row, int64_t row_end, int64_t column, int64_t column_end) {
    blas.gemm(row_end - row, column_end - column, k, factor, left.from(row, 0), right.from(0, column), beta,
              data + row * stride + column, stride);
  });
}

void solve_triangle(const at::Tensor& triangle, bool upper, bool left, const at::Tensor& b) {
  LATHE_ASSERT(triangle.size(0) == triangle.size(1) && triangle.size(0) == b.size(left ? 0 : 1),
               "a triangle of {} for [{}, {}]", triangle.size(0), b.size(0), b.size(1));
  const OpenBlas* const blas = library_for(triangle, b);
  if (blas == nullptr || !rows_apart(b)) {
    b.copy_(at::linalg_solve_triangular(triangle, b, upper, left));
    return;
  }
  const int64_t m = b.size(0), n = b.size(1);
  if (m == 0 || n == 0) return;
  const Operand matrix(triangle);
  auto* const data = b.data_ptr<float>();
  const int64_t stride = m == 1 ? n : b.stride(0);
  // Right-hand sides don't depend on one another.
  for_tiles(left ? 1 : m, left ? n : 1,
            [&](int64_t row, int64_t row_end, int64_t column, int64_t column_end) {
              blas->solve_triangle(left ? m : row_end - row, left ? column_end - column : n, matrix.view,
                                   upper, left, data + row * stride + column, stride);
            });
}

}  // namespace

at::Tensor matrix_product(const at::Tensor& a, const at::Tensor& b) {
  const OpenBlas* const blas = library_for(a, b);
  if (blas == nullptr) return at::mm(a, b);
  at::Tensor out = at::empty({a.size(0), b.size(1)}, a.options());
  multiply(*blas, out, a, b, 1, 0);
  return out;
}

void add_matrix_product(const at::Tensor& sum, const at::Tensor& a, const at::Tensor& b, double factor) {
  const OpenBlas* const blas = library_for(a, b);
  if (blas == nullptr || !rows_apart(sum)) {
    sum.addmm_(a, b, 1, factor);
    return;
  }
  multiply(*blas, sum, a, b, static_cast<float>(factor), 1);
}

at::Tensor linear_product(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const OpenBlas* const blas = library_for(x, weight);
  if (blas == nullptr) return at::linear(x, weight, bias);
  std::vector<int64_t> shape = x.sizes().vec();
  const at::Tensor rows = x.reshape({-1, shape.back()});
  shape.back() = weight.size(0);
  at::Tensor out = at::empty({rows.size(0), shape.back()}, x.options());
  if (bias.defined()) out.copy_(bias.expand_as(out));
  multiply(*blas, out, rows, weight.t(), 1, bias.defined() ? 1.0F : 0.0F);
  return out.view(shape);
}

void solve_triangle_left(const at::Tensor& triangle, bool upper, const at::Tensor& b) {
  solve_triangle(triangle, upper, /*left=*/true, b);
}

void solve_triangle_right(const at::Tensor& triangle, bool upper, const at::Tensor& b) {
  solve_triangle(triangle, upper, /*left=*/false, b);
}

std::string describe_matrix_products() {
  const OpenBlas* const blas = OpenBlas::instance();
  return blas == nullptr ? "libtorch" : blas->description();
}

}  // namespace lathe
