// How much memory a block and its computation take, from the graph alone.
#pragma once

#include <cstdint>

#include "lib/model/graph.h"

namespace lathe {

/// Weights in a linear, and bytes of a block's parameters in FP32.
uint64_t weights_in(const Linear& linear);
uint64_t block_bytes(const Block& block);
/// The largest block's.
uint64_t largest_block_bytes(const ModelGraph& graph);

/// A chunk's FP32 values while a block's attention or MLP is computed on `tokens`, whichever takes more: what
/// it reads, what it normalises that to, its projections (attention's twice, before and after rotation), what
/// comes out, and what that adds to the hidden states.
uint64_t forward_bytes(const Block& block, int64_t tokens);

}  // namespace lathe
