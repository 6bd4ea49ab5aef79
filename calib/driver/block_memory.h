// What the work on one block takes beside the activation stores.
#pragma once

#include <cstdint>
#include <vector>

#include "calib/driver/driver.h"
#include "calib/driver/observed_inputs.h"

namespace lathe {

/// Bytes on the compute device, at most, at the moment when a block takes most.
struct BlockMemory {
  uint64_t next = 0;        // the next block's weights, FP32
  uint64_t weights = 0;     // those of the block at hand that are not used up
  uint64_t originals = 0;   // the same as loaded, where a stream runs on it while it is being replaced
  uint64_t codes = 0;       // the quantised block, until it is written
  uint64_t statistics = 0;  // an input's sums and their buffers, or what they became
  uint64_t scratch = 0;     // to fold and solve that input's linears, or to compute a chunk
  uint64_t files = 0;       // of solvers, on disk: the most of any moment

  /// Of memory.
  uint64_t total() const { return next + weights + originals + codes + statistics + scratch; }
};

/// What the samples are and how they are computed.
struct SamplePlan {
  int64_t samples = 0, length = 0;
  int64_t micro_batch = 0;  // samples computed together
  bool remade = false;      // values inside a block are made twice, for which its weights are kept longer
  uint64_t expert_statistics = kMostExpertStatistics;  // of a block's experts that are collected at a time
  bool sparing = false;                                // StreamStorage::sparing
};

/// Looks at the job once, then tells what each way to run it takes. Blocks that are alike, and have the same
/// done to them, are looked at once. Keeps a reference to the job.
class BlockMemories {
 public:
  explicit BlockMemories(const CalibrationJob& job);
  /// The most of all blocks.
  BlockMemory most(const SamplePlan& plan) const;
  /// The Gram matrices, FP32, of all inputs of the largest block whose linears are solved.
  uint64_t gram_bytes() const;

 private:
  /// The first block of those that are alike.
  struct Kind {
    size_t block = 0;
    BlockInputs inputs;
  };

  const CalibrationJob& job_;
  uint64_t next_ = 0;        // weights of the largest block
  std::vector<Kind> kinds_;  // in the order of blocks
};

}  // namespace lathe
