// Cuts a stream of rows into chunks of a fixed size, wherever the stream itself is cut: what makes statistics
// the same bits for every batch size.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

namespace lathe {

/// Rows of one observation; reference and weights may be undefined, in all or none of a stream.
struct ObservedRows {
  at::Tensor x;          // [rows, width]
  at::Tensor reference;  // [rows, width]
  at::Tensor weights;    // Float [rows]

  int64_t count() const { return x.defined() ? x.size(0) : 0; }
  ObservedRows slice(int64_t begin, int64_t end) const;
};

class RowChunker {
 public:
  /// chunks_at_once: how many `take` gets together at most, where they lie within one observation.
  explicit RowChunker(int64_t chunk_rows, int64_t chunks_at_once = 1)
      : chunk_rows_(chunk_rows), chunks_at_once_(chunks_at_once) {}

  /// Calls `take` with the chunks that are complete now. Chunks that lie within `rows` are passed on as they
  /// are; only what straddles two calls is copied, into a buffer that grows up to one chunk.
  void push(const ObservedRows& rows, const std::function<void(const ObservedRows&)>& take);
  /// The rows that wait for more, in order; overwritten by the next push.
  ObservedRows pending() const { return buffer_.slice(0, pending_); }
  void clear() { pending_ = 0; }

 private:
  void append(const ObservedRows& rows);

  int64_t chunk_rows_, chunks_at_once_;
  int64_t pending_ = 0;
  ObservedRows buffer_;  // capacity: its rows
};

}  // namespace lathe
