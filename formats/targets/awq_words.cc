#include <ATen/ATen.h>

#include <array>

#include "formats/targets/code_words.h"
#include "formats/targets/word_tiles.h"
#include "lib/base/error.h"
#include "lib/kernels/target_clones.h"

namespace lathe {
namespace {

constexpr std::array<int, 8> kAwqOrder = {0, 2, 4, 6, 1, 3, 5, 7};

/// Two rows of 4-bit codes -> bytes, `low` in the low halves. Gives the bits that no field may have.
LATHE_CLONES uint8_t join_nibbles(const int8_t* __restrict low, const int8_t* __restrict high, int64_t count,
                                  uint8_t* __restrict bytes) {
  uint8_t outside = 0;
  for (int64_t i = 0; i < count; ++i) {
    const auto a = static_cast<uint8_t>(low[i] + 8), b = static_cast<uint8_t>(high[i] + 8);
    outside |= static_cast<uint8_t>(a | b);
    bytes[i] = static_cast<uint8_t>(a | b << 4);
  }
  return outside & 0xf0;
}

using AwqBytes = uint8_t[4][kTileWords];  // byte k of each word

LATHE_CLONES void join_bytes(const AwqBytes& bytes, int64_t count, uint32_t* __restrict words) {
  for (int64_t i = 0; i < count; ++i)
    words[i] = bytes[0][i] | bytes[1][i] << 8 | bytes[2][i] << 16 | uint32_t{bytes[3][i]} << 24;
}

/// Words [begin, end) of an AWQ lane: columns [begin, end) of eight rows that lie `in` apart.
uint64_t pack_awq_lane(const int8_t* codes, int64_t in, int64_t begin, int64_t end, uint32_t* words) {
  AwqBytes bytes;
  uint8_t outside = 0;
  for (size_t k = 0; k < 4; ++k) {
    outside |= join_nibbles(codes + kAwqOrder[2 * k] * in + begin, codes + kAwqOrder[2 * k + 1] * in + begin,
                            end - begin, bytes[k]);
  }
  join_bytes(bytes, end - begin, words);
  return outside;
}

LATHE_CLONES void unpack_awq_lane(const uint32_t* words, int64_t in, int64_t begin, int64_t end,
                                  int8_t* codes) {
  int8_t* rows[8];
  for (int s = 0; s < 8; ++s) rows[s] = codes + kAwqOrder[static_cast<size_t>(s)] * in + begin;
  for (int s = 0; s < 8; ++s) {
    for (int64_t i = 0; i < end - begin; ++i)
      rows[s][i] = static_cast<int8_t>(static_cast<int>(words[i] >> (4 * s) & 0xf) - 8);
  }
}

}  // namespace

at::Tensor pack_awq_words(const at::Tensor& codes) {
  check_matrix(codes, at::kChar);
  const int64_t out = codes.size(0), in = codes.size(1);
  LATHE_ASSERT(out % 8 == 0, "{} columns of AWQ words", out);
  const int8_t* from = codes.const_data_ptr<int8_t>();
  return gather_words({out / 8, in}, [=](int64_t lane, int64_t begin, int64_t end, uint32_t* words) {
    return pack_awq_lane(from + lane * 8 * in, in, begin, end, words);
  });
}

at::Tensor unpack_awq_words(const at::Tensor& words) {
  check_matrix(words, at::kInt);
  const int64_t in = words.size(0), lanes = words.size(1);
  at::Tensor codes = at::empty({lanes * 8, in}, at::kChar);
  int8_t* to = codes.mutable_data_ptr<int8_t>();
  scatter_words(words, {lanes, in}, [=](int64_t lane, int64_t begin, int64_t end, const uint32_t* part) {
    unpack_awq_lane(part, in, begin, end, to + lane * 8 * in);
  });
  return codes;
}

at::Tensor pack_awq_words_reference(const at::Tensor& codes) {
  const int64_t out = codes.size(0), in = codes.size(1);
  at::Tensor words = at::zeros({in, out / 8}, at::kInt);
  for (int64_t i = 0; i < in; ++i) {
    for (int64_t c = 0; c < out / 8; ++c) {
      uint32_t word = 0;
      for (int s = 0; s < 8; ++s) {
        const int field = codes[8 * c + kAwqOrder[static_cast<size_t>(s)]][i].item<int>() + 8;
        word |= static_cast<uint32_t>(field) << (4 * s);
      }
      words[i][c] = static_cast<int32_t>(word);
    }
  }
  return words;
}

}  // namespace lathe
