#include "formats/targets/code_words.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <type_traits>

#include "formats/targets/bitpack.h"
#include "lib/base/error.h"
#include "lib/kernels/target_clones.h"

namespace lathe {
namespace {

static_assert(std::endian::native == std::endian::little,
              "eight codes become bytes of a bit stream by shifts of whole registers");

constexpr std::array<int, 8> kAwqOrder = {0, 2, 4, 6, 1, 3, 5, 7};

/// A tile is kLanes rows of words, which become one cache line of the transposed matrix, and kBlock words of
/// each: 24 KiB. kBlock is a multiple of 3, so that a block of 3-bit codes begins with a code.
constexpr int64_t kLanes = 16, kBlock = 384;

/// The low bits set in each of the fields of `step` bits of a register.
constexpr uint64_t comb(int low, int step) {
  uint64_t mask = 0;
  for (int at = 0; at < 64; at += step) mask |= ((uint64_t{1} << low) - 1) << at;
  return mask;
}

/// In each part of 2 * step bits, the upper field of `width` bits moves from `step` down to the lower one.
constexpr uint64_t join(uint64_t x, int width, int step) {
  const uint64_t low = comb(width, 2 * step);
  return (x & low) | (x >> (step - width) & low << width);
}
/// The inverse.
constexpr uint64_t part(uint64_t x, int width, int step) {
  const uint64_t low = comb(width, 2 * step);
  return (x & low) | (x & low << width) << (step - width);
}

/// Eight fields of one byte each -> their 8 * kBits bits, the first in the low ones: neighbours are pushed
/// together, then pairs, then fours.
template <int kBits>
constexpr uint64_t squeeze(uint64_t x) {
  if constexpr (kBits == 8) return x;
  return join(join(join(x, kBits, 8), 2 * kBits, 16), 4 * kBits, 32);
}

/// The inverse.
template <int kBits>
constexpr uint64_t spread(uint64_t x) {
  if constexpr (kBits == 8) return x;
  return part(part(part(x, 4 * kBits, 32), 2 * kBits, 16), kBits, 8);
}

constexpr uint64_t kTopBits = comb(1, 8) << 7;

/// Adds 2^(b-1) to each of eight bytes, modulo 256.
template <int kBits>
constexpr uint64_t add_half(uint64_t x) {
  constexpr uint64_t kHalf = comb(1, 8) << (kBits - 1);
  if constexpr (kBits == 8) return x ^ kHalf;
  return ((x & ~kTopBits) + kHalf) ^ (x & kTopBits);
}
template <int kBits>
constexpr uint64_t subtract_half(uint64_t x) {
  constexpr uint64_t kHalf = comb(1, 8) << (kBits - 1);
  if constexpr (kBits == 8) return x ^ kHalf;
  return ((x | kTopBits) - kHalf) ^ kTopBits;
}

/// Eight codes at a time -> kBits bytes at a time. Gives the bits that no field may have.
template <int kBits>
LATHE_CLONES uint64_t pack_run(const int8_t* codes, int64_t count, uint32_t* words) {
  auto* bytes = reinterpret_cast<uint8_t*>(words);
  uint64_t outside = 0;
  for (int64_t k = 0; k < count / 8; ++k) {
    uint64_t x;
    std::memcpy(&x, codes + 8 * k, 8);
    x = add_half<kBits>(x);
    outside |= x & ~comb(kBits, 8);
    x = squeeze<kBits>(x);
    std::memcpy(bytes + kBits * k, &x, kBits);
  }
  return outside;
}

template <int kBits>
LATHE_CLONES void unpack_run(const uint32_t* words, int64_t count, int8_t* codes) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(words);
  for (int64_t k = 0; k < count / 8; ++k) {
    uint64_t x = 0;
    std::memcpy(&x, bytes + kBits * k, kBits);
    x = subtract_half<kBits>(spread<kBits>(x));
    std::memcpy(codes + 8 * k, &x, 8);
  }
}

/// A row of any length; its last codes are eighths of a register, the bits after them 0.
template <int kBits>
uint64_t pack_whole_row(const int8_t* codes, int64_t count, uint32_t* words, int64_t width) {
  const int64_t whole = count / 8 * 8;
  words[width - 1] = 0;
  uint64_t outside = pack_run<kBits>(codes, whole, words);
  if (whole == count) return outside;
  int8_t last[8];
  std::fill(last, last + 8, static_cast<int8_t>(-(1 << (kBits - 1))));
  std::copy(codes + whole, codes + count, last);
  uint32_t part[2] = {};
  outside |= pack_run<kBits>(last, 8, part);
  const int64_t written = whole / 8 * kBits, left = std::min<int64_t>(4 * width - written, kBits);
  std::memcpy(reinterpret_cast<uint8_t*>(words) + written, part, static_cast<size_t>(left));
  return outside;
}

template <int kBits>
void unpack_whole_row(const uint32_t* words, int64_t width, int64_t count, int8_t* codes) {
  const int64_t whole = count / 8 * 8;
  unpack_run<kBits>(words, whole, codes);
  if (whole == count) return;
  int8_t last[8];
  uint32_t part[2] = {};
  const int64_t read = whole / 8 * kBits, left = std::min<int64_t>(4 * width - read, kBits);
  std::memcpy(part, reinterpret_cast<const uint8_t*>(words) + read, static_cast<size_t>(left));
  unpack_run<kBits>(part, 8, last);
  std::copy(last, last + (count - whole), codes + whole);
}

/// Words [begin, end) of a GPTQ row are the codes [begin, end) * 32 / kBits.
template <int kBits>
uint64_t pack_gptq_lane(const int8_t* codes, int64_t, int64_t begin, int64_t end, uint32_t* words) {
  return pack_run<kBits>(codes + begin * 32 / kBits, (end - begin) * 32 / kBits, words);
}

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

using AwqBytes = uint8_t[4][kBlock];  // byte k of each word

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

/// A matrix of words [count, lanes], made from or made into `lanes` rows of codes.
struct Transposed {
  int64_t lanes = 0, count = 0;

  /// each(first lane, lanes, first word, end word) for every tile.
  template <class Each>
  void for_each_tile(const Each& each) const {
    at::parallel_for(0, ceil_div(lanes, kLanes), 4, [&](int64_t begin, int64_t end) {
      for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t first = tile * kLanes, width = std::min(kLanes, lanes - first);
        for (int64_t word = 0; word < count; word += kBlock)
          each(first, width, word, std::min(count, word + kBlock));
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
    alignas(64) uint32_t buffer[kLanes][kBlock];
    uint64_t bits = 0;
    for (int64_t lane = 0; lane < width; ++lane) bits |= pack(first + lane, begin, end, buffer[lane]);
    for (int64_t word = begin; word < end; ++word) {
      uint32_t* line = to + word * shape.lanes + first;
      for (int64_t lane = 0; lane < width; ++lane) line[lane] = buffer[lane][word - begin];
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
    alignas(64) uint32_t buffer[kLanes][kBlock];
    for (int64_t word = begin; word < end; ++word) {
      const uint32_t* line = from + word * shape.lanes + first;
      for (int64_t lane = 0; lane < width; ++lane) buffer[lane][word - begin] = line[lane];
    }
    for (int64_t lane = 0; lane < width; ++lane) unpack(first + lane, begin, end, buffer[lane]);
  });
}

template <int kBits>
at::Tensor pack_gptq(const at::Tensor& codes) {
  const int64_t out = codes.size(0), in = codes.size(1);
  const int8_t* from = codes.const_data_ptr<int8_t>();
  return gather_words({out, in * kBits / 32}, [=](int64_t lane, int64_t begin, int64_t end, uint32_t* words) {
    return pack_gptq_lane<kBits>(from + lane * in, in, begin, end, words);
  });
}

template <int kBits>
at::Tensor unpack_gptq(const at::Tensor& words) {
  const int64_t out = words.size(1), in = words.size(0) * 32 / kBits;
  at::Tensor codes = at::empty({out, in}, at::kChar);
  int8_t* to = codes.mutable_data_ptr<int8_t>();
  scatter_words(words, {out, words.size(0)},
                [=](int64_t lane, int64_t begin, int64_t end, const uint32_t* part) {
                  unpack_run<kBits>(part, (end - begin) * 32 / kBits, to + lane * in + begin * 32 / kBits);
                });
  return codes;
}

template <int kBits>
at::Tensor pack_rows_of(const at::Tensor& codes) {
  const int64_t rows = codes.size(0), n = codes.size(1), width = packed_words(n, kBits);
  at::Tensor result = at::empty({rows, width}, at::kInt);
  const int8_t* from = codes.const_data_ptr<int8_t>();
  auto* to = reinterpret_cast<uint32_t*>(result.mutable_data_ptr<int32_t>());
  std::atomic<uint64_t> outside = 0;
  at::parallel_for(0, rows, 16, [&](int64_t begin, int64_t end) {
    uint64_t bits = 0;
    for (int64_t row = begin; row < end; ++row)
      bits |= pack_whole_row<kBits>(from + row * n, n, to + row * width, width);
    if (bits != 0) outside |= bits;
  });
  LATHE_ASSERT(outside == 0, "codes don't fit in their bits");
  return result;
}

template <int kBits>
at::Tensor unpack_rows_of(const at::Tensor& words, int64_t n) {
  const int64_t rows = words.size(0), width = words.size(1);
  at::Tensor codes = at::empty({rows, n}, at::kChar);
  const auto* from = reinterpret_cast<const uint32_t*>(words.const_data_ptr<int32_t>());
  int8_t* to = codes.mutable_data_ptr<int8_t>();
  at::parallel_for(0, rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      unpack_whole_row<kBits>(from + row * width, width, n, to + row * n);
  });
  return codes;
}

void check(const at::Tensor& tensor, at::ScalarType type) {
  LATHE_ASSERT(tensor.is_cpu() && tensor.is_contiguous() && tensor.dim() == 2 && tensor.scalar_type() == type,
               "expected a contiguous matrix of {} on the CPU", c10::toString(type));
}

/// use(std::integral_constant of the width).
template <class Use>
at::Tensor with_width(int bits, const Use& use) {
  switch (bits) {
    case 2:
      return use(std::integral_constant<int, 2>());
    case 3:
      return use(std::integral_constant<int, 3>());
    case 4:
      return use(std::integral_constant<int, 4>());
    case 5:
      return use(std::integral_constant<int, 5>());
    case 6:
      return use(std::integral_constant<int, 6>());
    case 7:
      return use(std::integral_constant<int, 7>());
    case 8:
      return use(std::integral_constant<int, 8>());
    default:
      internal_error("words of {}-bit codes", bits);
  }
}

}  // namespace

at::Tensor pack_row_words(const at::Tensor& codes, int bits) {
  check(codes, at::kChar);
  LATHE_ASSERT(codes.size(1) > 0, "rows of no codes");
  return with_width(bits, [&](auto width) { return pack_rows_of<width()>(codes); });
}

at::Tensor unpack_row_words(const at::Tensor& words, int bits, int64_t n) {
  check(words, at::kInt);
  LATHE_ASSERT(words.size(1) == packed_words(n, bits), "{} words of {} codes", words.size(1), n);
  return with_width(bits, [&](auto width) { return unpack_rows_of<width()>(words, n); });
}

at::Tensor pack_gptq_words(const at::Tensor& codes, int bits) {
  check(codes, at::kChar);
  LATHE_ASSERT(codes.size(1) * bits % 32 == 0 && codes.size(1) % 8 == 0,
               "{} codes of {} bits don't fill words", codes.size(1), bits);
  LATHE_ASSERT(32 % bits == 0 || bits == 3, "GPTQ words of {} bits", bits);
  return with_width(bits, [&](auto width) { return pack_gptq<width()>(codes); });
}

at::Tensor unpack_gptq_words(const at::Tensor& words, int bits) {
  check(words, at::kInt);
  LATHE_ASSERT(32 % bits == 0 || (bits == 3 && words.size(0) % 3 == 0), "{} words of {}-bit codes",
               words.size(0), bits);
  return with_width(bits, [&](auto width) { return unpack_gptq<width()>(words); });
}

at::Tensor pack_awq_words(const at::Tensor& codes) {
  check(codes, at::kChar);
  const int64_t out = codes.size(0), in = codes.size(1);
  LATHE_ASSERT(out % 8 == 0, "{} columns of AWQ words", out);
  const int8_t* from = codes.const_data_ptr<int8_t>();
  return gather_words({out / 8, in}, [=](int64_t lane, int64_t begin, int64_t end, uint32_t* words) {
    return pack_awq_lane(from + lane * 8 * in, in, begin, end, words);
  });
}

at::Tensor unpack_awq_words(const at::Tensor& words) {
  check(words, at::kInt);
  const int64_t in = words.size(0), lanes = words.size(1);
  at::Tensor codes = at::empty({lanes * 8, in}, at::kChar);
  int8_t* to = codes.mutable_data_ptr<int8_t>();
  scatter_words(words, {lanes, in}, [=](int64_t lane, int64_t begin, int64_t end, const uint32_t* part) {
    unpack_awq_lane(part, in, begin, end, to + lane * 8 * in);
  });
  return codes;
}

at::Tensor pack_gptq_words_reference(const at::Tensor& codes, int bits) {
  const int64_t out = codes.size(0), in = codes.size(1);
  at::Tensor words = at::zeros({in * bits / 32, out}, at::kInt);
  for (int64_t o = 0; o < out; ++o) {
    for (int64_t bit = 0; bit < in * bits; ++bit) {
      const int field = codes[o][bit / bits].item<int>() + (1 << (bits - 1));
      const uint32_t value = static_cast<uint32_t>(field >> (bit % bits) & 1) << (bit % 32);
      words[bit / 32][o].bitwise_or_(static_cast<int32_t>(value));
    }
  }
  return words;
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
