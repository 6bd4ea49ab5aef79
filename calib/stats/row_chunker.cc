#include "calib/stats/row_chunker.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "lib/base/error.h"

namespace lathe {
namespace {

/// `capacity` rows like those of `rows`, the first `kept` from `old`.
at::Tensor grown(const at::Tensor& old, int64_t kept, const at::Tensor& rows, int64_t capacity) {
  if (!rows.defined()) return {};
  std::vector<int64_t> shape = rows.sizes().vec();
  shape[0] = capacity;
  at::Tensor result = at::empty(shape, rows.options());
  if (kept > 0) result.slice(0, 0, kept).copy_(old.slice(0, 0, kept));
  return result;
}

void copy_rows(const at::Tensor& to, int64_t begin, const at::Tensor& rows) {
  if (rows.defined()) to.slice(0, begin, begin + rows.size(0)).copy_(rows);
}

}  // namespace

ObservedRows ObservedRows::slice(int64_t begin, int64_t end) const {
  const auto part = [&](const at::Tensor& tensor) {
    return tensor.defined() ? tensor.slice(0, begin, end) : at::Tensor();
  };
  return {part(x), part(reference), part(weights)};
}

void RowChunker::append(const ObservedRows& rows) {
  const int64_t needed = pending_ + rows.count();
  LATHE_ASSERT(pending_ == 0 || (buffer_.reference.defined() == rows.reference.defined() &&
                                 buffer_.weights.defined() == rows.weights.defined() &&
                                 buffer_.x.scalar_type() == rows.x.scalar_type()),
               "observations of one input differ in kind");
  const bool other_kind = buffer_.count() > 0 && (buffer_.reference.defined() != rows.reference.defined() ||
                                                  buffer_.weights.defined() != rows.weights.defined() ||
                                                  buffer_.x.scalar_type() != rows.x.scalar_type());
  if (buffer_.count() < needed || other_kind) {
    const int64_t capacity = std::min(chunk_rows_, std::max(needed, 2 * buffer_.count()));
    buffer_ = {grown(buffer_.x, pending_, rows.x, capacity),
               grown(buffer_.reference, pending_, rows.reference, capacity),
               grown(buffer_.weights, pending_, rows.weights, capacity)};
  }
  copy_rows(buffer_.x, pending_, rows.x);
  copy_rows(buffer_.reference, pending_, rows.reference);
  copy_rows(buffer_.weights, pending_, rows.weights);
  pending_ = needed;
}

void RowChunker::push(const ObservedRows& rows, const std::function<void(const ObservedRows&)>& take) {
  for (int64_t row = 0; row < rows.count();) {
    const int64_t whole = (rows.count() - row) / chunk_rows_;
    const int64_t count = pending_ == 0 && whole > 0 ? std::min(whole, chunks_at_once_) * chunk_rows_
                                                     : std::min(rows.count() - row, chunk_rows_ - pending_);
    const ObservedRows part = rows.slice(row, row + count);
    row += count;
    if (count >= chunk_rows_) {
      take(part);
      continue;
    }
    append(part);
    if (pending_ < chunk_rows_) return;
    take(pending());
    pending_ = 0;
  }
}

}  // namespace lathe
