#include "calib/stats/gram.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <functional>

#include "lib/base/checked.h"
#include "lib/base/error.h"
#include "lib/base/pages.h"
#include "lib/base/process_memory.h"
#include "lib/kernels/accumulate.h"
#include "lib/tensor/matrix_product.h"
#include "lib/tensor/openblas.h"

namespace lathe {
namespace {

/// On a CPU: panels of columns down to the diagonal block, and that block cut into narrower ones, because
/// what they hold below the diagonal is computed for nothing.
constexpr int64_t kPanel = 512, kWithinPanel = 128;
/// On a GPU a batch of products is worth its launch if it has about as many tiles of 128 x 128 as a large
/// device has multiprocessors, and products of fewer rows don't run at its rate.
constexpr int64_t kTile = 128, kFewestTiles = 100, kSmallestHalf = 512;
/// Halves begin at a multiple of 64 bytes.
constexpr int64_t kHalfMultiple = 32;
/// Rows that are written at a time, and on a GPU columns.
constexpr int64_t kWrittenRows = 2048, kCudaPanel = kWrittenRows;
/// Rows of a block that are multiplied at once: the product, 4 MB, stays in a shared cache until it is added
/// to the sum, and is cut into tiles that are worth their packing (512 rows: a fifth slower).
constexpr int64_t kTileRows = 2048;
/// Rows of a product that one thread makes: few where there would be too few products to keep threads equally
/// busy, else as many as columns, which are packed for each.
constexpr int64_t kFewRows = 192, kNarrow = 4096;
/// Tokens that a GPU adds in FP32.
constexpr int64_t kPartialTokens = 16'384;

/// The ends of equal steps of at most `largest` from `begin` to `end`.
std::vector<int64_t> steps(int64_t begin, int64_t end, int64_t largest) {
  const int64_t length = end - begin;
  const int64_t step = ceil_div(length, std::max<int64_t>(1, ceil_div(length, largest)));
  std::vector<int64_t> ends;
  for (int64_t at = begin; at < end; at += step) ends.push_back(std::min(at + step, end));
  return ends;
}

/// The sides of the blocks on the diagonal when the matrix has been halved as often as is worth it.
int64_t halved(int64_t width) {
  int64_t size = width, count = 1;
  while (size % (2 * kHalfMultiple) == 0 && size / 2 >= kSmallestHalf) {
    const int64_t tiles = ceil_div(size / 2, kTile);
    if (count * tiles * tiles < kFewestTiles) break;
    size /= 2;
    count *= 2;
  }
  return size;
}

std::vector<GramRectangles> panels(int64_t width) {
  std::vector<GramRectangles> all;
  int64_t begin = 0;
  for (const int64_t end : steps(0, width, kPanel)) {
    if (begin > 0) all.push_back({0, begin, begin, end});
    if (OpenBlas::instance() != nullptr) {
      all.push_back({begin, end, begin, end});
      begin = end;
      continue;
    }
    int64_t column = begin;
    for (const int64_t column_end : steps(begin, end, kWithinPanel)) {
      all.push_back({begin, column_end, column, column_end});
      column = column_end;
    }
    begin = end;
  }
  return all;
}

std::vector<GramRectangles> halves(int64_t width) {
  std::vector<GramRectangles> all;
  const int64_t smallest = halved(width);
  for (int64_t size = width; size > smallest; size /= 2)
    all.push_back({0, size / 2, size / 2, size, width / size, size});
  all.push_back({0, smallest, 0, smallest, width / smallest, smallest});
  return all;
}

std::vector<GramBlock> upper_triangle(int64_t width, c10::Device device) {
  std::vector<GramBlock> blocks;
  for (const GramRectangles& place : gram_upper_triangle(width, device.type()))
    blocks.emplace_back(place, device);
  return blocks;
}

/// All of a matrix that isn't symmetric. On a CPU squares, row by row: each is written to rows that those
/// before it stand in, too, so that no more of the matrix stands in memory than was let go of its sums.
std::vector<GramBlock> whole(int64_t width, c10::Device device) {
  std::vector<GramBlock> blocks;
  int64_t row = 0;
  for (const int64_t row_end : steps(0, width, device.is_cpu() ? kPanel : width)) {
    int64_t column = 0;
    for (const int64_t column_end : steps(0, width, device.is_cpu() ? kPanel : kCudaPanel)) {
      blocks.emplace_back(GramRectangles{row, row_end, column, column_end}, device);
      column = column_end;
    }
    row = row_end;
  }
  return blocks;
}

int64_t rows_at_once(int64_t width) { return width > kNarrow ? kPanel : kFewRows; }

BlasOperand columns_from(const at::Tensor& rows, int64_t column, bool transposed = false) {
  LATHE_ASSERT(rows.is_contiguous() && rows.scalar_type() == at::kFloat, "rows of a Gram matrix");
  return {rows.const_data_ptr<float>() + column, rows.size(1), transposed};
}

/// A part of a block's product.
struct Part {
  GramBlock* block;
  int64_t begin, end;
  bool upper;  // of a block on the diagonal of a symmetric one: all its rows
  int64_t size() const { return (end - begin) * (block->place().column_end - block->place().column); }
};

std::vector<Part> parts_of(std::vector<GramBlock>& blocks, int64_t rows, bool symmetric) {
  std::vector<Part> parts;
  for (GramBlock& block : blocks) {
    const GramRectangles& place = block.place();
    const bool upper = symmetric && place.row == place.column;
    int64_t begin = place.row;
    for (const int64_t end : steps(place.row, place.row_end, upper ? kPanel : rows)) {
      parts.push_back({&block, begin, end, upper});
      begin = end;
    }
  }
  std::ranges::stable_sort(parts, std::greater(), &Part::size);  // the last ones to be taken are short
  return parts;
}

/// Adds a^T b's parts to all blocks; `symmetric`: b is a, and what lies below the diagonal is of no use. On a
/// CPU with OpenBLAS they are made beside each other, each by one thread, which adds it to the sums while it
/// is in its cache. Who takes which changes no bit.
void add_to(std::vector<GramBlock>& blocks, const at::Tensor& a, const at::Tensor& b, bool symmetric) {
  if (!a.is_cpu() || OpenBlas::instance() == nullptr) {
    for (GramBlock& block : blocks) block.add(a, b);
    return;
  }
  const std::vector<Part> parts = parts_of(blocks, rows_at_once(a.size(1)), symmetric);
  if (parts.empty()) return;
  std::atomic<size_t> next = 0;
  const auto workers = std::min<int64_t>(at::get_num_threads(), std::ssize(parts));
  const at::Tensor terms = at::empty({workers, parts.front().size()}, at::kFloat);
  at::parallel_for(0, workers, 1, [&](int64_t first, int64_t last) {
    for (int64_t worker = first; worker < last; ++worker) {
      float* const own = terms.data_ptr<float>() + worker * terms.stride(0);
      for (size_t i = next++; i < parts.size(); i = next++) {
        const Part& part = parts[i];
        if (part.upper) {
          part.block->add_upper(a, own);
        } else {
          part.block->add_rows(a, b, part.begin, part.end, own);
        }
      }
    }
  });
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

std::vector<GramRectangles> gram_upper_triangle(int64_t width, c10::DeviceType device) {
  return device == c10::kCPU ? panels(width) : halves(width);
}

int64_t gram_diagonal_columns(int64_t width, c10::Device device) {
  return device.is_cpu() ? std::min(width, kPanel) : halved(width);
}

int64_t gram_panel_columns(int64_t width, c10::Device device) {
  return device.is_cpu() ? std::min(width, kPanel) : std::min(width, std::max(halved(width), kCudaPanel));
}

uint64_t gram_product_bytes(int64_t width, c10::Device device) {
  const auto columns = static_cast<uint64_t>(gram_panel_columns(width, device));
  if (!device.is_cpu() || OpenBlas::instance() == nullptr) return static_cast<uint64_t>(width) * columns * 4;
  return static_cast<uint64_t>(at::get_num_threads()) * columns * columns * 4;
}

int64_t gram_sum_bytes(c10::Device device) { return device.is_cpu() ? 8 : 8 + 4; }

GramBlock::GramBlock(GramRectangles place, c10::Device device)
    : place_(place),
      sum_(at::zeros({place.count, place.row_end - place.row, place.column_end - place.column},
                     at::TensorOptions().dtype(at::kDouble).device(device))) {}

void GramBlock::add(const at::Tensor& a, const at::Tensor& b) {
  const auto& [row, row_end, column, column_end, count, step] = place_;
  if (a.is_cpu()) {
    for (int64_t i = 0; i < count; ++i) {
      const at::Tensor columns = b.slice(1, column + i * step, column_end + i * step);
      for (int64_t begin = row; begin < row_end; begin += kTileRows) {
        const int64_t end = std::min(begin + kTileRows, row_end);
        kernels::accumulate(sum_[i].slice(0, begin - row, end - row),
                            matrix_product(a.slice(1, begin + i * step, end + i * step).t(), columns));
      }
    }
    return;
  }
  if (!partial_.defined()) partial_ = at::zeros(sum_.sizes(), sum_.options().dtype(at::kFloat));
  const int64_t tokens = a.size(0), width = a.stride(0);
  const at::Tensor rows =
      a.as_strided({count, row_end - row, tokens}, {step, 1, width}, a.storage_offset() + row);
  const at::Tensor columns =
      b.as_strided({count, tokens, column_end - column}, {step, b.stride(0), 1}, b.storage_offset() + column);
  if (a.scalar_type() == at::kFloat) {
    partial_.baddbmm_(rows, columns);
  } else {
    at::baddbmm_out(partial_, partial_, rows, columns, at::kFloat);
  }
  partial_tokens_ += tokens;
  if (partial_tokens_ >= kPartialTokens) flush();
}

void GramBlock::add_rows(const at::Tensor& a, const at::Tensor& b, int64_t begin, int64_t end, float* terms) {
  const int64_t columns = place_.column_end - place_.column;
  OpenBlas::instance()->gemm(end - begin, columns, a.size(0), 1, columns_from(a, begin, /*transposed=*/true),
                             columns_from(b, place_.column), 0, terms, columns);
  double* const sum = sum_.data_ptr<double>() + (begin - place_.row) * columns;
  kernels::accumulate_rows(sum, terms, end - begin, columns, /*upper=*/false);
}

void GramBlock::add_upper(const at::Tensor& a, float* terms) {
  const int64_t columns = place_.column_end - place_.column;
  OpenBlas::instance()->syrk(columns, a.size(0), columns_from(a, place_.column), terms, columns);
  kernels::accumulate_rows(sum_.data_ptr<double>(), terms, columns, columns, /*upper=*/true);
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

/// Rows [begin, end) of one rectangle.
at::Tensor GramBlock::values(int64_t index, int64_t begin, int64_t end, double factor) {
  return (sum_[index].slice(0, begin, end) * factor).to(at::kFloat);
}

void GramBlock::write(double factor, const at::Tensor& gram) {
  flush();
  for (int64_t i = 0; i < place_.count; ++i) {
    const int64_t moved = i * place_.step;
    gram.slice(0, place_.row + moved, place_.row_end + moved)
        .slice(1, place_.column + moved, place_.column_end + moved)
        .copy_(values(i, 0, place_.row_end - place_.row, factor));
  }
}

void GramBlock::write_symmetric(double factor, const at::Tensor& gram) {
  flush();
  for (int64_t i = 0; i < place_.count; ++i) {
    const int64_t moved = i * place_.step, row = place_.row + moved, row_end = place_.row_end + moved;
    const int64_t column = place_.column + moved, column_end = place_.column_end + moved;
    const int64_t above_end = std::min(row_end, column);  // rows before it are above the diagonal
    for (int64_t begin = row; begin < above_end; begin += kWrittenRows) {
      const int64_t end = std::min(begin + kWrittenRows, above_end);
      const at::Tensor above = values(i, begin - row, end - row, factor);
      gram.slice(0, begin, end).slice(1, column, column_end).copy_(above);
      gram.slice(0, column, column_end).slice(1, begin, end).copy_(above.t());
    }
    if (row_end <= column) continue;
    const at::Tensor crossing = values(i, column - row, row_end - row, factor);
    gram.slice(0, column, column_end)
        .slice(1, column, column_end)
        .copy_(crossing.triu() + crossing.triu(1).t());
  }
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
  add_to(blocks_, rows, rows, /*symmetric=*/true);
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
    : width_(width), device_(device), blocks_(whole(width, device)) {}

void CrossGramCollector::observe(const at::Tensor& x, const at::Tensor& reference,
                                 const at::Tensor& weights) {
  const at::Tensor rows = weighted_rows(x, weights), others = weighted_rows(reference, weights);
  add_to(blocks_, others, rows, /*symmetric=*/false);
}

void CrossGramCollector::merge(CrossGramCollector& other) { merge_blocks(blocks_, other.blocks_); }

at::Tensor CrossGramCollector::finish(double factor) {
  at::Tensor gram = at::empty({width_, width_}, at::TensorOptions().dtype(at::kFloat).device(device_));
  for (GramBlock& block : blocks_) {
    block.write(factor, gram);
    block.release();
  }
  release_free_memory();
  return gram;
}

}  // namespace lathe
