// How much of a head, and of its logits, is looked at at a time.
#pragma once

#include <c10/core/Device.h>

#include <algorithm>
#include <cstdint>

namespace lathe {

/// Pieces of a head [vocabulary, width] and of the logits that they make: `tokens` rows of the head times
/// `positions` positions. 16 MB of a head and 8 MB of logits in FP32 on a CPU, whatever the vocabulary; a GPU
/// needs larger products to be busy.
struct HeadPieces {
  int64_t tokens = 0, positions = 0;
};

inline HeadPieces head_pieces(int64_t vocabulary, int64_t width, c10::Device device) {
  constexpr int64_t kHeadValues = int64_t{1} << 22, kLogitValues = int64_t{1} << 21, kMostTokens = 8192;
  const int64_t times = device.is_cpu() ? 1 : 4;
  const int64_t tokens =
      std::min({std::max<int64_t>(1, times * kHeadValues / width), times * kMostTokens, vocabulary});
  return {tokens, std::max<int64_t>(1, times * kLogitValues / tokens)};
}

}  // namespace lathe
