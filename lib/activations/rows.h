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

/// Rows that are computed together: one GEMM's worth. It depends on nothing but the samples' length and the
/// kind of device, never on memory: a matrix product's last bits may depend on how many rows it has, so a
/// chunk that followed the limits would make the result follow them too. Enough tokens for GEMMs to run at
/// their rate (on a CPU 1,024 tokens reach that of 2,048 within 5 %), few enough for the intermediates of
/// wide layers to stay far below a block's weights.
int64_t chunk_rows(int64_t length, c10::Device device);

/// [0, rows) in pieces of `step` rows, the last one shorter.
std::vector<RowRange> cut_rows(int64_t rows, int64_t step);

}  // namespace lathe
