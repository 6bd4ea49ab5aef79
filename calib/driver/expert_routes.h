// Where the router sends a stream's tokens in one block: asked once, for all sweeps over the experts and for
// the way out of the block.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "calib/driver/stream.h"

namespace lathe {

/// Held on the CPU: 8 bytes for each token and expert it is sent to.
class ExpertRoutes {
 public:
  /// Asks the router for all chunks, then waits for the device, where there is one: once. To be made when the
  /// stream's rows stand before the MLP and norm and router are what they will be; no fold or solve of an
  /// expert changes what the router reads, so the answer holds until the rows leave the block.
  ExpertRoutes(const Block& block, const BlockStream& stream, const std::vector<RowRange>& chunks);

  /// Tokens of a chunk that are sent to an expert, counted from the chunk's first: Long, ascending, CPU.
  at::Tensor tokens(size_t chunk, int64_t expert) const;
  /// How many they are, and how many in all chunks; padding is routed, too.
  int64_t count(size_t chunk, int64_t expert) const;
  int64_t count(int64_t expert) const;
  /// The n-th of an expert's tokens in all chunks, counted from the stream's first.
  int64_t token(int64_t expert, int64_t n) const;
  /// What each expert gets of a chunk, on the device, which is not waited for; as Routing::by_expert().
  std::vector<Routing::Rows> by_expert(size_t chunk, c10::Device device) const;

 private:
  struct Chunk {
    int64_t first = 0;           // of its tokens
    at::Tensor tokens;           // Int, those of the first expert, then those of the second, ...
    at::Tensor weights;          // Float, theirs
    std::vector<int64_t> begin;  // of each expert's; one more at the end
  };
  std::vector<Chunk> chunks_;
};

}  // namespace lathe
