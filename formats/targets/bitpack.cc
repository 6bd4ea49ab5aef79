#include "formats/targets/bitpack.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <bit>

#include "lib/base/error.h"

namespace lathe {
namespace {

static_assert(std::endian::native == std::endian::little,
              "words are written to files as they stand in memory");

/// Fields of a width that divides 32: none straddles, and the inner loop is a constant number of shifts.
template <int kBits>
void pack_aligned(std::span<const uint8_t> fields, std::span<uint32_t> words) {
  constexpr size_t kPerWord = 32 / kBits;
  const size_t whole = fields.size() / kPerWord;
  for (size_t k = 0; k < whole; ++k) {
    uint32_t word = 0;
    for (size_t j = 0; j < kPerWord; ++j) word |= uint32_t{fields[k * kPerWord + j]} << (kBits * j);
    words[k] = word;
  }
  if (whole == words.size()) return;
  words[whole] = 0;
  for (size_t i = whole * kPerWord; i < fields.size(); ++i) {
    words[whole] |= uint32_t{fields[i]} << (kBits * (i % kPerWord));
  }
}

template <int kBits>
void unpack_aligned(std::span<const uint32_t> words, std::span<uint8_t> fields) {
  constexpr size_t kPerWord = 32 / kBits;
  constexpr uint32_t kMask = (uint32_t{1} << kBits) - 1;
  const size_t whole = fields.size() / kPerWord;
  for (size_t k = 0; k < whole; ++k) {
    for (size_t j = 0; j < kPerWord; ++j) {
      fields[k * kPerWord + j] = static_cast<uint8_t>(words[k] >> (kBits * j) & kMask);
    }
  }
  for (size_t i = whole * kPerWord; i < fields.size(); ++i) {
    fields[i] = static_cast<uint8_t>(words[whole] >> (kBits * (i % kPerWord)) & kMask);
  }
}

/// Any width: a 64-bit accumulator fills from above and drains whole words from below.
void pack_streaming(std::span<const uint8_t> fields, int bits, std::span<uint32_t> words) {
  uint64_t pending = 0;
  int pending_bits = 0;
  size_t next = 0;
  for (const uint8_t field : fields) {
    pending |= uint64_t{field} << pending_bits;
    pending_bits += bits;
    if (pending_bits >= 32) {
      words[next++] = static_cast<uint32_t>(pending);
      pending >>= 32;
      pending_bits -= 32;
    }
  }
  if (pending_bits > 0) words[next] = static_cast<uint32_t>(pending);
}

/// Any width, and no code in common with the packer: each field is cut out of a 64-bit window at its bit
/// offset.
void unpack_windowed(std::span<const uint32_t> words, int bits, std::span<uint8_t> fields) {
  const uint64_t mask = (uint64_t{1} << bits) - 1;
  for (size_t i = 0; i < fields.size(); ++i) {
    const size_t offset = i * static_cast<size_t>(bits);
    const size_t word = offset / 32;
    const uint64_t high = word + 1 < words.size() ? words[word + 1] : 0;
    fields[i] = static_cast<uint8_t>((high << 32 | words[word]) >> (offset % 32) & mask);
  }
}

void check_row(size_t fields, int bits, size_t words) {
  LATHE_ASSERT(bits >= 1 && bits <= 8, "bit packing of {} bits", bits);
  LATHE_ASSERT(static_cast<int64_t>(words) == packed_words(static_cast<int64_t>(fields), bits),
               "{} fields of {} bits in {} words", fields, bits, words);
}

}  // namespace

void pack_row(std::span<const uint8_t> fields, int bits, std::span<uint32_t> words) {
  check_row(fields.size(), bits, words.size());
  switch (bits) {
    case 2:
      return pack_aligned<2>(fields, words);
    case 4:
      return pack_aligned<4>(fields, words);
    case 8:
      return pack_aligned<8>(fields, words);
    default:
      return pack_streaming(fields, bits, words);
  }
}

void unpack_row(std::span<const uint32_t> words, int bits, std::span<uint8_t> fields) {
  check_row(fields.size(), bits, words.size());
  switch (bits) {
    case 2:
      return unpack_aligned<2>(words, fields);
    case 4:
      return unpack_aligned<4>(words, fields);
    case 8:
      return unpack_aligned<8>(words, fields);
    default:
      return unpack_windowed(words, bits, fields);
  }
}

void pack_row_reference(std::span<const uint8_t> fields, int bits, std::span<uint32_t> words) {
  check_row(fields.size(), bits, words.size());
  for (uint32_t& word : words) word = 0;
  for (size_t i = 0; i < fields.size(); ++i) {
    for (int b = 0; b < bits; ++b) {
      const size_t position = i * static_cast<size_t>(bits) + static_cast<size_t>(b);
      words[position / 32] |= (uint32_t{fields[i]} >> b & 1u) << (position % 32);
    }
  }
}

void unpack_row_reference(std::span<const uint32_t> words, int bits, std::span<uint8_t> fields) {
  check_row(fields.size(), bits, words.size());
  for (size_t i = 0; i < fields.size(); ++i) {
    unsigned field = 0;
    for (int b = 0; b < bits; ++b) {
      const size_t position = i * static_cast<size_t>(bits) + static_cast<size_t>(b);
      field |= (words[position / 32] >> (position % 32) & 1u) << b;
    }
    fields[i] = static_cast<uint8_t>(field);
  }
}

at::Tensor to_fields(const at::Tensor& values, int bits) {
  LATHE_ASSERT(values.scalar_type() == at::kChar, "codes and zero points are Char");
  const auto [low, high] = at::aminmax(values);
  LATHE_ASSERT(low.item<int64_t>() >= -(1 << (bits - 1)) && high.item<int64_t>() < (1 << (bits - 1)),
               "codes in [{}, {}] don't fit in {} bits", low.item<int64_t>(), high.item<int64_t>(), bits);
  return (values.cpu().to(at::kShort) + (1 << (bits - 1))).to(at::kByte).contiguous();
}

at::Tensor to_signed(const at::Tensor& fields, int bits) {
  return (fields.to(at::kShort) - (1 << (bits - 1))).to(at::kChar).contiguous();
}

at::Tensor pack_rows(const at::Tensor& fields, int bits) {
  LATHE_ASSERT(
      fields.is_cpu() && fields.is_contiguous() && fields.dim() == 2 && fields.scalar_type() == at::kByte,
      "pack_rows: expected Byte [rows, n] on the CPU");
  const int64_t rows = fields.size(0), n = fields.size(1), width = packed_words(n, bits);
  at::Tensor words = at::empty({rows, width}, at::kInt);
  const uint8_t* from = fields.const_data_ptr<uint8_t>();
  auto* to = reinterpret_cast<uint32_t*>(words.mutable_data_ptr<int32_t>());
  at::parallel_for(0, rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      pack_row({from + row * n, static_cast<size_t>(n)}, bits,
               {to + row * width, static_cast<size_t>(width)});
    }
  });
  return words;
}

at::Tensor unpack_rows(const at::Tensor& words, int bits, int64_t n) {
  LATHE_ASSERT(words.is_cpu() && words.is_contiguous() && words.dim() == 2 && words.scalar_type() == at::kInt,
               "unpack_rows: expected Int [rows, words] on the CPU");
  const int64_t rows = words.size(0), width = words.size(1);
  at::Tensor fields = at::empty({rows, n}, at::kByte);
  const auto* from = reinterpret_cast<const uint32_t*>(words.const_data_ptr<int32_t>());
  uint8_t* to = fields.mutable_data_ptr<uint8_t>();
  at::parallel_for(0, rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      unpack_row({from + row * width, static_cast<size_t>(width)}, bits,
                 {to + row * n, static_cast<size_t>(n)});
    }
  });
  return fields;
}

}  // namespace lathe
