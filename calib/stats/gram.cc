#include "calib/stats/gram.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "lib/base/checked.h"
#include "lib/base/error.h"
#include "lib/base/pages.h"
#include "lib/base/process_memory.h"
#include "lib/kernels/accumulate.h"
#include "lib/tensor/matrix_product.h"

namespace lathe {
namespace {

/// How the upper triangle is cut into rectangles: panels of columns down to the diagonal block, and that
/// block into narrower ones, because what they hold below the diagonal is computed for nothing.
struct Cut {
  int64_t panel, within;
};
constexpr Cut kCpuCut{512, 128};
/// Whole diagonal blocks: 512 x 512 outputs keep an eighth of a large GPU busy, and took longer than what is
/// computed for nothing here.
constexpr Cut kCudaCut{2048, 2048};
/// Rows of a block that are multiplied at once: the product, 4 MB, stays in a shared cache until it is added
/// to the sum, and is cut into tiles that are worth their packing (512 rows: a fifth slower).
constexpr int64_t kTileRows = 2048;
/// Tokens that a GPU adds in FP32.
constexpr int64_t kPartialTokens = 16'384;

Cut cut_for(c10::Device device) { return device.is_cpu() ? kCpuCut : kCudaCut; }

/// The ends of equal steps of at most `largest` from `begin` to `end`.
std::vector<int64_t> steps(int64_t begin, int64_t end, int64_t largest) {
  const int64_t length = end - begin;
  const int64_t step = ceil_div(length, std::max<int64_t>(1, ceil_div(length, largest)));
  std::vector<int64_t> ends;
  for (int64_t at = begin; at < end; at += step) ends.push_back(std::min(at + step, end));
  return ends;
}

std::vector<GramBlock> upper_triangle(int64_t width, c10::Device device) {
  const Cut cut = cut_for(device);
  std::vector<GramBlock> blocks;
  int64_t begin = 0;
  for (const int64_t end : steps(0, width, cut.panel)) {
    if (begin > 0) blocks.emplace_back(0, begin, begin, end, device);
    int64_t column = begin;
    for (const int64_t column_end : steps(begin, end, cut.within)) {
      blocks.emplace_back(begin, column_end, column, column_end, device);
      column = column_end;
    }
    begin = end;
  }
  return blocks;
}

std::vector<GramBlock> all_columns(int64_t width, c10::Device device) {
  std::vector<GramBlock> blocks;
  int64_t begin = 0;
  for (const int64_t end : steps(0, width, gram_panel_columns(device))) {
    blocks.emplace_back(0, width, begin, end, device);
    begin = end;
  }
  return blocks;
}

void merge_blocks(std::vector<GramBlock>& blocks, std::vector<GramBlock>& others) {
  LATHE_ASSERT(blocks.size() == others.size(), "Gram matrices of {} and {} blocks", blocks.size(),
               others.size());
  for (size_t i = 0; i < blocks.size(); ++i) blocks[i].merge(others[i]);
}

/// Bytes from which on a matrix's rows must not take huge pages while they are written: of these a few rows
/// fill one, so that all rows above a panel would stand in memory beside the sums, a quarter of the matrix
/// more.
constexpr size_t kStriped = size_t{1} << 30;

at::Tensor empty_gram(int64_t width, c10::Device device) {
  at::Tensor gram = at::empty({width, width}, at::TensorOptions().dtype(at::kFloat).device(device));
  if (device.is_cpu() && gram.nbytes() >= kStriped) use_small_pages(gram.mutable_data_ptr(), gram.nbytes());
  return gram;
}

}  // namespace

at::Tensor weighted_rows(const at::Tensor& x, const at::Tensor& weights) {
  if (!weights.defined()) return x;
  return x.to(at::kFloat) * weights.sqrt().unsqueeze(1);
}

int64_t gram_panel_columns(c10::Device device) { return cut_for(device).panel; }
int64_t gram_sum_bytes(c10::Device device) { return device.is_cpu() ? 8 : 8 + 4; }

GramBlock::GramBlock(int64_t row, int64_t row_end, int64_t column, int64_t column_end, c10::Device device)
    : row_(row),
      row_end_(row_end),
      column_(column),
      column_end_(column_end),
      sum_(at::zeros({row_end - row, column_end - column},
                     at::TensorOptions().dtype(at::kDouble).device(device))) {}

void GramBlock::add(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor columns = b.slice(1, column_, column_end_);
  if (a.is_cpu()) {
    for (int64_t row = row_; row < row_end_; row += kTileRows) {
      const int64_t end = std::min(row + kTileRows, row_end_);
      kernels::accumulate(sum_.slice(0, row - row_, end - row_),
                          matrix_product(a.slice(1, row, end).t(), columns));
    }
    return;
  }
  const at::Tensor rows = a.slice(1, row_, row_end_).t();
  if (!partial_.defined()) partial_ = at::zeros(sum_.sizes(), sum_.options().dtype(at::kFloat));
  if (a.scalar_type() == at::kFloat) {
    partial_.addmm_(rows, columns);
  } else {
    at::addmm_out(partial_, partial_, rows, columns, at::kFloat);
  }
  partial_tokens_ += a.size(0);
  if (partial_tokens_ >= kPartialTokens) flush();
}

void GramBlock::flush() {
  if (partial_tokens_ == 0) return;
  kernels::accumulate(sum_, partial_);
  partial_.zero_();
  partial_tokens_ = 0;
}

void GramBlock::merge(GramBlock& other) {
  flush();
  other.flush();
  sum_ += other.sum_.to(sum_.device());
}

at::Tensor GramBlock::values(double factor) {
  flush();
  return (sum_ * factor).to(at::kFloat);
}

void GramBlock::write(double factor, const at::Tensor& gram) {
  gram.slice(0, row_, row_end_).slice(1, column_, column_end_).copy_(values(factor));
}

void GramBlock::write_symmetric(double factor, const at::Tensor& gram) {
  const at::Tensor block = values(factor);
  const int64_t above_end = std::min(row_end_, column_);  // rows before it are above the diagonal
  const at::Tensor above = block.slice(0, 0, above_end - row_);
  gram.slice(0, row_, above_end).slice(1, column_, column_end_).copy_(above);
  gram.slice(0, column_, column_end_).slice(1, row_, above_end).copy_(above.t());
  if (row_end_ <= column_) return;
  const at::Tensor crossing = block.slice(0, column_ - row_);
  gram.slice(0, column_, column_end_)
      .slice(1, column_, column_end_)
      .copy_(crossing.triu() + crossing.triu(1).t());
}

uint64_t GramBlock::release() {
  const uint64_t bytes = sum_.nbytes();
  sum_.reset();
  partial_.reset();
  return bytes;
}

GramCollector::GramCollector(int64_t width, c10::Device device)
    : width_(width), device_(device), blocks_(upper_triangle(width, device)) {}

void GramCollector::observe(const at::Tensor& x, const at::Tensor& weights) {
  const at::Tensor rows = weighted_rows(x, weights);
  for (GramBlock& block : blocks_) block.add(rows, rows);
}

void GramCollector::merge(GramCollector& other) { merge_blocks(blocks_, other.blocks_); }

at::Tensor GramCollector::finish(double factor) {
  at::Tensor gram = empty_gram(width_, device_);
  // What is written so far and what is left of the sums: together one matrix.
  uint64_t released = 0;
  for (GramBlock& block : blocks_) {
    block.write_symmetric(factor, gram);
    released += block.release();
    if (released < kGramReturnedBytes) continue;
    release_free_memory();
    released = 0;
  }
  return gram;
}

CrossGramCollector::CrossGramCollector(int64_t width, c10::Device device)
    : width_(width), device_(device), blocks_(all_columns(width, device)) {}

void CrossGramCollector::observe(const at::Tensor& x, const at::Tensor& reference,
                                 const at::Tensor& weights) {
  const at::Tensor rows = weighted_rows(x, weights), others = weighted_rows(reference, weights);
  for (GramBlock& block : blocks_) block.add(others, rows);
}

void CrossGramCollector::merge(CrossGramCollector& other) { merge_blocks(blocks_, other.blocks_); }

at::Tensor CrossGramCollector::finish(double factor) {
  at::Tensor gram = empty_gram(width_, device_);
  for (GramBlock& block : blocks_) {
    block.write(factor, gram);
    block.release();
  }
  release_free_memory();
  return gram;
}

}  // namespace lathe
