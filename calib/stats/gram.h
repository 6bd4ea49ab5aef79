// Gram matrices of a linear's input, summed over observations: X^T X, and X_ref^T X of two streams.
//
// Products are FP32, or FP16/BF16 with FP32 accumulation where x has that type (tensor cores, on a GPU); sums
// over chunks are FP64, so each takes as much memory as one full FP32 matrix. On a GPU a few chunks are added
// in FP32 first, within the GEMM, because the FP64 sum would cost half as much as the product of one chunk.
// Merging equals the whole but for FP64 rounding where the first part ends with a chunk.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace lathe {

/// One block of columns, its products summed.
class PanelSum {
 public:
  PanelSum(int64_t rows, int64_t columns, c10::Device device);
  /// sum += a^T b; a: [tokens, rows], b: [tokens, columns], both Float, or both Half or BFloat16 on CUDA.
  void add(const at::Tensor& a, const at::Tensor& b);
  void merge(PanelSum& other);
  /// FP64 [rows, columns]; everything added so far.
  const at::Tensor& total();

 private:
  void flush();

  at::Tensor sum_;      // FP64
  at::Tensor partial_;  // FP32: chunks not yet in sum_, where undefined none; CUDA only
  int64_t partial_chunks_ = 0;
};

/// X^T X. Only the panels on and above the diagonal are computed and kept: half the work and half the memory.
class GramCollector {
 public:
  GramCollector(int64_t width, c10::Device device);

  /// x: [tokens, width], finite. weights: Float [tokens] >= 0, or undefined for 1; row t counts weights[t]
  /// times.
  void observe(const at::Tensor& x, const at::Tensor& weights = {});
  void merge(GramCollector& other);
  /// FP32 [width, width], the sum times `factor`, exactly symmetric.
  at::Tensor finish(double factor);

 private:
  struct Panel {
    int64_t begin = 0, end = 0;  // columns
    PanelSum sum;                // [end, end - begin]
  };
  int64_t width_ = 0;
  c10::Device device_;
  std::vector<Panel> panels_;
};

/// X_ref^T X, [i, j] = sum over tokens of reference_i x_j: what algorithms need that compensate for the error
/// that the quantised stream x already carries against the reference.
class CrossGramCollector {
 public:
  CrossGramCollector(int64_t width, c10::Device device);
  /// x, reference: [tokens, width], finite, of one type; weights as above.
  void observe(const at::Tensor& x, const at::Tensor& reference, const at::Tensor& weights = {});
  void merge(CrossGramCollector& other);
  /// FP32 [width, width], the sum times `factor`.
  at::Tensor finish(double factor);

 private:
  struct Panel {
    int64_t begin = 0, end = 0;  // columns
    PanelSum sum;                // [width, end - begin]
  };
  int64_t width_ = 0;
  c10::Device device_;
  std::vector<Panel> panels_;
};

}  // namespace lathe
