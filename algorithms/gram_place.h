// A Gram matrix that lends its place in memory to the factor of its inverse, and waits in a file meanwhile.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>

#include "lib/tensor/triangle_file.h"

namespace lathe {

class GramPlace {
 public:
  /// gram: Float [n, n], symmetric, contiguous, on the CPU; nobody else reads it until give_back(). order:
  /// Long [n], of its rows and columns in the place and the file. work: an existing folder.
  GramPlace(at::Tensor& gram, const at::Tensor& order, const std::filesystem::path& work);

  const at::Tensor& order() const { return order_; }
  /// Float [n], the matrix's own, in its own order.
  const at::Tensor& diagonal() const { return diagonal_; }

  /// The matrix in that order, read again if it was given away before; the caller's to change.
  at::Tensor matrix();
  /// Rows [first, end) of the same, from column `first` on: Float, the caller's.
  at::Tensor rows(int64_t first, int64_t end) const { return file_.rows(first, end); }
  /// Lets the memory go, for whoever makes a matrix in other memory and gives it to take().
  void leave();
  at::Tensor take(at::Tensor matrix);
  /// Puts the Gram matrix where it was, as it was.
  void give_back();

 private:
  at::Tensor& gram_;
  at::Tensor order_, diagonal_;
  TriangleFile file_;
  bool fresh_ = true;  // what stands in the place is the matrix
};

}  // namespace lathe
