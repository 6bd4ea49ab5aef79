// Gram matrices of a linear's input, summed over observations: X^T X, and X_ref^T X of two streams.
//
// Products are FP32, or FP16/BF16 with FP32 accumulation where x has that type (tensor cores, on a GPU); sums
// over chunks are FP64, so X^T X takes as much memory as one full FP32 matrix, and X_ref^T X twice that. On a
// GPU a few products are added in FP32 first, within the GEMM, because the FP64 sum would cost half as much
// as one of them. Merging equals the whole but for FP64 rounding where the first part ends with a chunk. Rows
// with weights are multiplied in FP32 whatever their type: a weight's root, rounded to 16 bits, would be an
// error of the statistic.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace lathe {

/// What planning memory has to know of the sums: the most columns that are written at a time;
int64_t gram_panel_columns(int64_t width, c10::Device device);
/// columns of a block on the diagonal, of which all is kept, so that sums are of width (width + columns) / 2;
int64_t gram_diagonal_columns(int64_t width, c10::Device device);
/// bytes of each value while rows are observed: FP64, and on a GPU FP32 beside it;
int64_t gram_sum_bytes(c10::Device device);
/// bytes of the products that are held at a time, of all threads;
uint64_t gram_product_bytes(int64_t width, c10::Device device);
/// and bytes of sums that finish() lets the allocator collect before it makes it give them back to the
/// system.
constexpr uint64_t kGramReturnedBytes = uint64_t{16} << 20;

/// Equal rectangles of a Gram matrix: rows [row, row_end), columns [column, column_end), and `count` - 1
/// more, each `step` rows and columns after the one before.
struct GramRectangles {
  int64_t row, row_end, column, column_end, count = 1, step = 0;
};

/// Rectangles that cover what lies on and above the diagonal once, and in blocks on the diagonal what is
/// below. On a CPU panels of columns down to the diagonal, whose blocks on it are by themselves where there
/// is a library that computes half of them (OpenBLAS). On a GPU halves: the upper right quarter, then those
/// of both halves in one batch, and so on, as long as a batch fills a large device; the blocks on the
/// diagonal are the last batch. Batches of small products keep it as busy as one large one, and less is
/// computed for nothing.
std::vector<GramRectangles> gram_upper_triangle(int64_t width, c10::DeviceType device);

/// The sums of such rectangles.
class GramBlock {
 public:
  GramBlock(GramRectangles place, c10::Device device);

  /// Adds a^T b's part; a, b: [tokens, width] of one type, Float, or on CUDA Half or BFloat16.
  void add(const at::Tensor& a, const at::Tensor& b);
  /// On a CPU with OpenBLAS: the same of rows [begin, end), by the calling thread; `terms` has room for them.
  void add_rows(const at::Tensor& a, const at::Tensor& b, int64_t begin, int64_t end, float* terms);
  /// The same of a^T a's block on the diagonal: what lies on and above it.
  void add_upper(const at::Tensor& a, float* terms);
  const GramRectangles& place() const { return place_; }
  void merge(GramBlock& other);
  /// Writes what was added so far, times `factor`, to its place in `gram`, FP32 [width, width].
  void write(double factor, const at::Tensor& gram);
  /// The same, and its mirror image. Where a rectangle crosses the diagonal, the upper one of [i, j] and
  /// [j, i] stands for both, for the GEMM may round them differently.
  void write_symmetric(double factor, const at::Tensor& gram);
  /// Lets the sums go, and says how many bytes: the block is of no use after that.
  uint64_t release();

 private:
  at::Tensor values(int64_t index, int64_t begin, int64_t end, double factor);
  void flush();

  GramRectangles place_;
  at::Tensor sum_;      // FP64 [count, rows, columns]
  at::Tensor partial_;  // FP32, CUDA only: what is not yet in sum_
  int64_t partial_tokens_ = 0;
};

/// Rows [tokens, width] times the roots of their weights, Float: the product of two such rows carries the
/// weight, symmetrically. The rows themselves where weights are undefined.
at::Tensor weighted_rows(const at::Tensor& x, const at::Tensor& weights);

/// X^T X. Only blocks on and above the diagonal are computed and kept: half the work and half the memory.
class GramCollector {
 public:
  GramCollector(int64_t width, c10::Device device);

  /// x: [tokens, width], finite. weights: Float [tokens] >= 0, or undefined for 1; row t counts weights[t]
  /// times.
  void observe(const at::Tensor& x, const at::Tensor& weights = {});
  void merge(GramCollector& other);
  /// FP32 [width, width], the sum times `factor`, exactly symmetric.
  /// Ends the collector: its sums are let go as they are written.
  at::Tensor finish(double factor);

 private:
  int64_t width_ = 0;
  c10::Device device_;
  std::vector<GramBlock> blocks_;
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
  /// Ends the collector: its sums are let go as they are written.
  at::Tensor finish(double factor);

 private:
  int64_t width_ = 0;
  c10::Device device_;
  std::vector<GramBlock> blocks_;
};

}  // namespace lathe
