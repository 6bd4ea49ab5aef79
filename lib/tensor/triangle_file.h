// A symmetric matrix in a file, while something else stands in its place.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>

#include "lib/base/scratch_file.h"

namespace lathe {

/// Its upper triangle, in panels of rows from the diagonal block on. Errors: ScratchFile's.
class TriangleFile {
 public:
  /// Writes the matrix: Float [n, n], symmetric, on the CPU. folder: an existing one.
  TriangleFile(const at::Tensor& matrix, const std::filesystem::path& folder);

  /// All of it into `matrix`, as it was written.
  void read(const at::Tensor& matrix) const;
  /// Rows [first, end) from column `first` on: Float [end - first, n - first], contiguous.
  at::Tensor rows(int64_t first, int64_t end) const;

  /// Bytes on disk of a matrix [size, size], and of memory, at the most, while it is written or read.
  static uint64_t bytes(int64_t size);
  static uint64_t buffer_bytes(int64_t size);

 private:
  at::Tensor read_rows(int64_t first, int64_t end, int64_t panel) const;

  int64_t size_;
  ScratchFile file_;
};

}  // namespace lathe
