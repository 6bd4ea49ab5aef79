#include "algorithms/packed_inverse_factor.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "algorithms/inverse_factor.h"
#include "lib/base/cancel.h"
#include "lib/base/process_memory.h"
#include "lib/tensor/matrix_product.h"

namespace lathe {
namespace {

/// Rows of a panel: high enough for products at the machine's rate, low beside the matrix.
constexpr int64_t kPanel = 256;
/// Bytes of panels that are let go before the allocator must give them back to the system.
constexpr uint64_t kReturnedBytes = uint64_t{16} << 20;

/// Rows [first, end), columns [first, size); its first columns are the diagonal block.
struct Panel {
  int64_t first = 0, end = 0;
  at::Tensor values;  // Double [end - first, size - first]

  int64_t rows() const { return end - first; }
  /// The columns of a panel at or below this one;
  at::Tensor columns_of(const Panel& other) const {
    return values.slice(1, other.first - first, other.end - first);
  }
  /// and all after those.
  at::Tensor after(const Panel& other) const { return values.slice(1, other.end - first); }
};

/// From the last panel to the first, A = R R^T and U = R^-1:
///
///   R_pp R_pp^T = A_pp - R_p,>p R_p,>p^T;   R_qp = (A_qp - R_q,>p R_p,>p^T) R_pp^-T for q < p
///   U_pp = R_pp^-1;   U_p,>p = -R_pp^-1 (sum over q > p of R_pq U_q)
///
/// Panel p is R's when its own columns are done, and nobody reads it as such after that.
class Panels {
 public:
  Panels(int64_t size, const TriangleRows& rows) {
    for (int64_t first = 0; first < size; first += kPanel) {
      const int64_t end = std::min(size, first + kPanel);
      panels_.push_back({first, end, rows(first, end)});
    }
  }

  /// False where the matrix is not positive definite.
  bool invert() {
    for (size_t p = panels_.size(); p-- > 0;) {
      throw_if_cancelled();
      const Panel& panel = panels_[p];
      const auto inverse = inverted_diagonal_block(panel);
      if (!inverse) return false;
      for (size_t q = 0; q < p; ++q) {
        const at::Tensor block = panels_[q].columns_of(panel);
        if (panel.end < size())
          add_matrix_product(block, panels_[q].after(panel), panel.after(panel).t(), -1);
        block.copy_(matrix_product(block, inverse->t()));
      }
      invert_rows(p, *inverse);
      if (!at::isfinite(panel.values).all().item<bool>()) return false;
    }
    return true;
  }

  /// Lets the panels go while they are written.
  at::Tensor to_float() {
    at::Tensor result = at::empty({size(), size()}, panels_.front().values.options().dtype(at::kFloat));
    uint64_t released = 0;
    for (Panel& panel : panels_) {
      const at::Tensor rows = result.slice(0, panel.first, panel.end);
      rows.slice(1, 0, panel.first).zero_();
      rows.slice(1, panel.first).copy_(panel.values);
      released += panel.values.nbytes();
      panel.values.reset();
      if (released < kReturnedBytes) continue;
      release_free_memory();
      released = 0;
    }
    return result;
  }

 private:
  int64_t size() const { return panels_.back().end; }

  /// R_pp^-1; nothing where the block is not positive definite, or a pivot, the inverse of an element on its
  /// diagonal, within the rounding errors of A's.
  std::optional<at::Tensor> inverted_diagonal_block(const Panel& panel) const {
    constexpr double kEpsilon = std::numeric_limits<double>::epsilon();
    at::Tensor block = panel.columns_of(panel).contiguous().clone();
    const at::Tensor diagonal = block.diagonal().clone();
    if (panel.end < size()) add_matrix_product(block, panel.after(panel), panel.after(panel).t(), -1);
    auto inverse = inverse_factor(block);
    if (!inverse) return inverse;
    const at::Tensor squares = inverse->diagonal().square().reciprocal();
    return (squares > diagonal * (2 * kEpsilon)).all().item<bool>() ? inverse : std::nullopt;
  }

  void invert_rows(size_t p, const at::Tensor& inverse) const {
    const Panel& panel = panels_[p];
    panel.columns_of(panel).copy_(inverse);
    if (panel.end == size()) return;
    const at::Tensor sum = at::zeros({panel.rows(), size() - panel.end}, panel.values.options());
    for (size_t q = p + 1; q < panels_.size(); ++q)
      add_matrix_product(sum.slice(1, panels_[q].first - panel.end), panel.columns_of(panels_[q]),
                         panels_[q].values);
    set_matrix_product(panel.after(panel), inverse, sum, -1);
  }

  std::vector<Panel> panels_;
};

}  // namespace

std::optional<at::Tensor> packed_inverse_factor(int64_t size, const TriangleRows& rows) {
  Panels panels(size, rows);
  if (!panels.invert()) return std::nullopt;
  return panels.to_float();
}

uint64_t packed_inverse_factor_bytes(int64_t size) {
  const auto n = static_cast<uint64_t>(size), panel = std::min(n, static_cast<uint64_t>(kPanel));
  // Half a matrix in FP64 and what the diagonal blocks hold below the diagonal; a panel as it is read, of
  // sums, or of their products; or memory that isn't given back yet.
  const uint64_t triangle = (n * (n + panel) / 2) * 8;
  return triangle + std::max(2 * n * panel * 8, std::min(n * n * 4, kReturnedBytes));
}

}  // namespace lathe
