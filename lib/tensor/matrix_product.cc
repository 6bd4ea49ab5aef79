#include "lib/tensor/matrix_product.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <bit>
#include <optional>

#include "lib/base/checked.h"
#include "lib/base/error.h"
#include "lib/tensor/openblas.h"

namespace lathe {
namespace {

/// Rows and columns of a tile, at most: what a thread packs for one is small beside what it computes with it.
constexpr int64_t kLargestTile = 512;
/// Tiles of small matrices are halved down to this, until there are some for every thread of a small machine.
constexpr int64_t kSmallestTile = 64, kEnoughTiles = 8;
/// Tiles of a part of a high matrix (part_rows()).
constexpr int64_t kTilesAPart = 2;
/// Their sizes are multiples of it, as kernels like them.
constexpr int64_t kLanes = 8;

struct Tile {
  int64_t rows, columns;
};

/// Equal tiles in numbers that are powers of two, so that threads get as many of them, and finish together.
Tile tile_of(int64_t m, int64_t n) {
  const auto parts = [](int64_t size) {
    return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(ceil_div(size, kLargestTile))));
  };
  int64_t down = parts(m), across = parts(n);
  while (down * across < kEnoughTiles) {
    int64_t& longer = m * across >= n * down ? down : across;
    if (std::max(m / down, n / across) < 2 * kSmallestTile) break;
    longer *= 2;
  }
  return {ceil_div(ceil_div(m, down), kLanes) * kLanes, ceil_div(ceil_div(n, across), kLanes) * kLanes};
}

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

/// Calls f(row, row_end, column, column_end) for all tiles of `parts` [m, n] matrices, one below the other,
/// on all threads.
template <class F>
void for_tiles(const Tile& tile, int64_t parts, int64_t m, int64_t n, F&& f) {
  const int64_t down = ceil_div(m, tile.rows);
  at::parallel_for(0, parts * down * ceil_div(n, tile.columns), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      // Neighbours share the columns of b, of which more is packed in a product of weights.
      const int64_t first = i / down % parts * m, row = first + i % down * tile.rows,
                    column = i / down / parts * tile.columns;
      f(row, std::min(first + m, row + tile.rows), column, std::min(n, column + tile.columns));
    }
  });
}

bool rows_apart(const at::Tensor& out) {
  return out.stride(1) == 1 && (out.size(0) == 1 || out.stride(0) >= out.size(1));
}

/// out = factor a b + beta out; the rows of `a` are `parts` matrices, multiplied one by one. How one is cut
/// depends on its own shape alone, or where it is a part of a matrix of `whole` rows on that one's.
void multiply(const OpenBlas& blas, const at::Tensor& out, const at::Tensor& a, const at::Tensor& b,
              float factor, float beta, int64_t parts = 1, int64_t whole = 0) {
  const int64_t m = a.size(0), k = a.size(1), n = b.size(1);
  LATHE_ASSERT(b.size(0) == k && out.size(0) == m && out.size(1) == n, "[{}, {}] x [{}, {}] into [{}, {}]", m,
               k, b.size(0), n, out.size(0), out.size(1));
  if (m == 0 || n == 0) return;
  const Operand left(a), right(b);
  auto* const data = out.data_ptr<float>();
  const int64_t stride = m == 1 ? n : out.stride(0);
  const Tile tile = tile_of(whole > 0 ? whole : m / parts, n);
  for_tiles(tile, parts, m / parts, n, [&](int64_t row, int64_t row_end, int64_t column, int64_t column_end) {
    blas.gemm(row_end - row, column_end - column, k, factor, left.from(row, 0), right.from(0, column), beta,
              data + row * stride + column, stride);
  });
}

/// ATen's, sample by sample: its library chooses kernels by a product's rows, too.
at::Tensor by_sample(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (x.size(0) < 2) return at::linear(x, weight, bias);
  at::Tensor out = at::empty({x.size(0), x.size(1), weight.size(0)}, x.options());
  for (int64_t sample = 0; sample < x.size(0); ++sample) {
    at::Tensor part = out[sample];
    if (bias.defined()) {
      at::addmm_out(part, bias, x[sample], weight.t());
    } else {
      at::mm_out(part, x[sample], weight.t());
    }
  }
  return out;
}

}  // namespace

at::Tensor matrix_product(const at::Tensor& a, const at::Tensor& b) {
  const OpenBlas* const blas = library_for(a, b);
  if (blas == nullptr) return at::mm(a, b);
  at::Tensor out = at::empty({a.size(0), b.size(1)}, a.options());
  multiply(*blas, out, a, b, 1, 0);
  return out;
}

void set_matrix_product(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, double factor) {
  const OpenBlas* const blas = library_for(a, b);
  if (blas == nullptr || !rows_apart(out)) {
    out.addmm_(a, b, /*beta=*/0, factor);
    return;
  }
  multiply(*blas, out, a, b, static_cast<float>(factor), 0);
}

void add_matrix_product(const at::Tensor& sum, const at::Tensor& a, const at::Tensor& b, double factor) {
  const OpenBlas* const blas = library_for(a, b);
  if (blas == nullptr || !rows_apart(sum)) {
    sum.addmm_(a, b, 1, factor);
    return;
  }
  multiply(*blas, sum, a, b, static_cast<float>(factor), 1);
}

// A high matrix is cut downwards into at least kEnoughTiles whatever its columns are: tile_of() gives tiles
// of as many rows for all of them.
int64_t part_rows(int64_t whole) {
  return whole < kEnoughTiles * kLargestTile ? whole : kTilesAPart * tile_of(whole, 1).rows;
}

void add_matrix_product_of_rows(const at::Tensor& sum, const at::Tensor& a, const at::Tensor& b,
                                double factor, int64_t whole) {
  const OpenBlas* const blas = library_for(a, b);
  if (blas != nullptr && rows_apart(sum))
    return multiply(*blas, sum, a, b, static_cast<float>(factor), 1, 1, whole);
  // Other libraries choose kernels by a product's rows; a GPU works on all of them.
  const int64_t step = sum.is_cpu() ? part_rows(whole) : whole;
  for (int64_t row = 0; row < sum.size(0); row += step)
    sum.slice(0, row, row + step).addmm_(a.slice(0, row, row + step), b, 1, factor);
}

at::Tensor linear_product(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  // OpenBLAS's sums depend on where a row stands among the others: in a sample always at the same place,
  // among tokens of several samples (those of an expert) not.
  const OpenBlas* const blas = x.dim() == 3 ? library_for(x, weight) : nullptr;
  if (blas == nullptr && x.dim() == 3 && x.is_cpu()) return by_sample(x, weight, bias);
  if (blas == nullptr) return at::linear(x, weight, bias);
  const int64_t samples = x.size(0), out_width = weight.size(0);
  at::Tensor out = at::empty({samples, x.size(1), out_width}, x.options());
  if (bias.defined()) out.copy_(bias.expand_as(out));
  if (samples > 0) {
    multiply(*blas, out.view({-1, out_width}), x.reshape({-1, x.size(2)}), weight.t(), 1,
             bias.defined() ? 1.0F : 0.0F, samples);
  }
  return out;
}

std::string describe_matrix_products() {
  const OpenBlas* const blas = OpenBlas::instance();
  return blas == nullptr ? "libtorch" : blas->description();
}

}  // namespace lathe
