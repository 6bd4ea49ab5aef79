// The Gram matrix X^T X of a linear's input, summed over observations.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace lathe {

/// Only the panels on and above the diagonal are computed and kept: half the work and half the memory of the
/// full matrix. Products are FP32, one GEMM for each panel and observed chunk; sums over chunks are FP64 (so
/// this takes as much memory as one full FP32 matrix).
class GramCollector {
 public:
  GramCollector(int64_t width, c10::Device device);

  /// x: FP32 [tokens, width]. Returns false, leaving the sums spoiled, where the diagonal is not finite any
  /// more: x holds a NaN or an infinity, or values whose squares overflow FP32.
  bool observe(const at::Tensor& x);
  void merge(const GramCollector& other);
  /// FP32 [width, width], the sum times `factor`, exactly symmetric.
  at::Tensor finish(double factor) const;

 private:
  struct Panel {
    int64_t begin = 0, end = 0;  // columns
    at::Tensor sum;              // FP64 [end, end - begin]
  };
  int64_t width_ = 0;
  std::vector<Panel> panels_;
};

}  // namespace lathe
