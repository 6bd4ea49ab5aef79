#include "formats/targets/code_words.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "formats/targets/bitpack.h"
#include "formats/targets/eight_codes.h"
#include "formats/targets/word_tiles.h"
#include "lib/base/error.h"
#include "lib/kernels/target_clones.h"

namespace lathe {
namespace {

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
  check_matrix(codes, at::kChar);
  LATHE_ASSERT(codes.size(1) > 0, "rows of no codes");
  return with_width(bits, [&](auto width) { return pack_rows_of<width()>(codes); });
}

at::Tensor unpack_row_words(const at::Tensor& words, int bits, int64_t n) {
  check_matrix(words, at::kInt);
  LATHE_ASSERT(words.size(1) == packed_words(n, bits), "{} words of {} codes", words.size(1), n);
  return with_width(bits, [&](auto width) { return unpack_rows_of<width()>(words, n); });
}

at::Tensor pack_gptq_words(const at::Tensor& codes, int bits) {
  check_matrix(codes, at::kChar);
  LATHE_ASSERT(codes.size(1) * bits % 32 == 0 && codes.size(1) % 8 == 0,
               "{} codes of {} bits don't fill words", codes.size(1), bits);
  LATHE_ASSERT(32 % bits == 0 || bits == 3, "GPTQ words of {} bits", bits);
  return with_width(bits, [&](auto width) { return pack_gptq<width()>(codes); });
}

at::Tensor unpack_gptq_words(const at::Tensor& words, int bits) {
  check_matrix(words, at::kInt);
  LATHE_ASSERT(32 % bits == 0 || (bits == 3 && words.size(0) % 3 == 0), "{} words of {}-bit codes",
               words.size(0), bits);
  return with_width(bits, [&](auto width) { return unpack_gptq<width()>(words); });
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

}  // namespace lathe
