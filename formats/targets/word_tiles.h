// Matrices of words [count, lanes] from and into `lanes` rows of codes, in tiles that stay in the first-level
// cache. code_words.cc and awq_words.cc use them.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "lib/base/checked.h"
#include "lib/base/error.h"

namespace lathe {

/// A tile is kTileLanes rows of words, which become one cache line of the transposed matrix, and kTileWords
/// words of each: 24 KiB. kTileWords is a multiple of 3, so that a block of 3-bit codes begins with a code.
inline constexpr int64_t kTileLanes = 16, kTileWords = 384;

/// A matrix of words [count, lanes], made from or made into `lanes` rows of codes.
struct Transposed {
  int64_t lanes = 0, count = 0;

  /// each(first lane, lanes, first word, end word) for every tile.
  template <class Each>
  void for_each_tile(const Each& each) const {
    at::parallel_for(0, ceil_div(lanes, kTileLanes), 4, [&](int64_t begin, int64_t end) {
      for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t first = tile * kTileLanes, width = std::min(kTileLanes, lanes - first);
        for (int64_t word = 0; word < count; word += kTileWords)
          each(first, width, word, std::min(count, word + kTileWords));
      }
    });
  }
};

/// pack(lane, begin, end, words) fills words [begin, end) of a lane.
template <class Pack>
at::Tensor gather_words(const Transposed& shape, const Pack& pack) {
  at::Tensor result = at::empty({shape.count, shape.lanes}, at::kInt);
  auto* to = reinterpret_cast<uint32_t*>(result.mutable_data_ptr<int32_t>());
  std::atomic<uint64_t> outside = 0;
  shape.for_each_tile([&](int64_t first, int64_t width, int64_t begin, int64_t end) {
    alignas(64) uint32_t buffer[kTileLanes][kTileWords];
    uint64_t bits = 0;
    for (int64_t lane = 0; lane < width; ++lane) bits |= pack(first + lane, begin, end, buffer[lane]);
    for (int64_t word = begin; word < end; ++word) {
      uint32_t* line = to + word * shape.lanes + first;
      if (width == kTileLanes) {  // a number of lanes that the compiler knows
        for (int64_t lane = 0; lane < kTileLanes; ++lane) line[lane] = buffer[lane][word - begin];
      } else {
        for (int64_t lane = 0; lane < width; ++lane) line[lane] = buffer[lane][word - begin];
      }
    }
    if (bits != 0) outside |= bits;
  });
  LATHE_ASSERT(outside == 0, "codes don't fit in their bits");
  return result;
}

/// unpack(lane, begin, end, words) takes them.
template <class Unpack>
void scatter_words(const at::Tensor& words, const Transposed& shape, const Unpack& unpack) {
  const auto* from = reinterpret_cast<const uint32_t*>(words.const_data_ptr<int32_t>());
  shape.for_each_tile([&](int64_t first, int64_t width, int64_t begin, int64_t end) {
    alignas(64) uint32_t buffer[kTileLanes][kTileWords];
    for (int64_t word = begin; word < end; ++word) {
      const uint32_t* line = from + word * shape.lanes + first;
      for (int64_t lane = 0; lane < width; ++lane) buffer[lane][word - begin] = line[lane];
    }
    for (int64_t lane = 0; lane < width; ++lane) unpack(first + lane, begin, end, buffer[lane]);
  });
}

/// InternalError unless it is.
inline void check_matrix(const at::Tensor& tensor, at::ScalarType type) {
  LATHE_ASSERT(tensor.is_cpu() && tensor.is_contiguous() && tensor.dim() == 2 && tensor.scalar_type() == type,
               "expected a contiguous matrix of {} on the CPU", c10::toString(type));
}

}  // namespace lathe
