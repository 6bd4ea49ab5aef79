// What the work on one block takes beside the activation stores.
#pragma once

#include <cstdint>

#include "calib/driver/driver.h"

namespace lathe {

/// Bytes on the compute device, at most.
struct BlockMemory {
  uint64_t weights = 0;     // one block in FP32
  uint64_t originals = 0;   // the same as loaded, where a stream runs on it while it is being replaced
  uint64_t codes = 0;       // the quantised block, until it is written
  uint64_t statistics = 0;  // the largest input's sums, their buffers and what they become
  uint64_t scratch = 0;     // while that input's linears are folded and solved, or a chunk is computed
};

/// The largest block's, for `samples` of `length` tokens. `remade`: values inside a block are made twice, for
/// which the weights before a fold are kept.
BlockMemory block_memory(const CalibrationJob& job, int64_t samples, int64_t length, bool remade);

/// The Gram matrices, FP32, of all inputs of the largest block that are observed.
uint64_t gram_bytes(const CalibrationJob& job);

}  // namespace lathe
