// tr(D H D^T): the squared output error of a weight error D on inputs whose Gram matrix is H. What searches
// minimise and reports print, at a cost that doesn't grow with the number of tokens.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace lathe {

/// Prepared for one symmetric H, then evaluated for many D. H = H^T halves the work: each column panel is
/// multiplied only with the rows of H above its end, the part above the diagonal block counted twice; rows *
/// in^2 * (1 + 1/panels) FLOPs instead of 2 * rows * in^2. FP32 products, FP64 sums over rows and panels.
class QuadraticForm {
 public:
  /// gram: FP32 [in, in], symmetric, on the device of the later arguments; shared, not copied.
  explicit QuadraticForm(const at::Tensor& gram);

  /// d: FP32 [rows, in]. The sum over rows o of d_o H d_o^T.
  double operator()(const at::Tensor& d) const;
  /// The same as a Double scalar on d's device, which is not waited for.
  at::Tensor on_device(const at::Tensor& d) const;

 private:
  at::Tensor gram_;
  std::vector<int64_t> ends_;  // of the column panels
};

/// How many rows of a matrix to take at a time so that temporaries of that size stay in the cache (CPU) or
/// keep all multiprocessors busy (CUDA).
int64_t rows_per_chunk(const at::Tensor& matrix);

}  // namespace lathe
