// How samples are cut for computing. Hidden states are [samples, length, width]; a "row" is one sample.
#pragma once

#include <c10/core/Device.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace lathe {

/// Rows [first, first + count).
struct RowRange {
  int64_t first = 0, count = 0;
  int64_t end() const { return first + count; }
  bool operator==(const RowRange&) const = default;
};

/// Rows that are computed together where memory allows it: one GEMM's worth. Enough tokens for GEMMs to run
/// at their rate (on a CPU 1,024 tokens reach that of 2,048 within 5 %), few enough for the intermediates of
/// wide layers to stay far below a block's weights.
int64_t chunk_rows(int64_t length, c10::Device device);

/// The micro-batches to choose from, largest first: chunk_rows(), then numbers that divide it, each at most
/// half the one before, down to 1. A sample is never cut.
std::vector<int64_t> micro_batches(int64_t length, c10::Device device);

/// [0, rows) in pieces of `step` rows, the last one shorter.
std::vector<RowRange> cut_rows(int64_t rows, int64_t step);

}  // namespace lathe
