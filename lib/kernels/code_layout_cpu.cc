// Kernel layouts on the CPU: threads over strips of output channels. The places of one block are tabled as
// offsets into the codes once, so that a block is a gather, a shift and an or for each code.
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "lib/kernels/code_layout_rows.h"
#include "lib/kernels/target_clones.h"

namespace lathe::kernels::cpu {
namespace {

using device::BlockSides;
using device::CodeLayout;
using device::CodePlace;

constexpr int64_t kGrainCodes = 1 << 15;

/// For each field of a block, where its code stands from the block's first one.
std::vector<int64_t> block_offsets(const CodeLayout& layout, int64_t row_length) {
  std::vector<int64_t> offsets;
  for (int32_t word = 0; word < device::words_of_block(layout); ++word) {
    for (int32_t field = 0; field < device::fields_of_word(layout); ++field) {
      const CodePlace place = device::code_place(layout, word, field);
      offsets.push_back(place.out * row_length + place.in);
    }
  }
  return offsets;
}

template <int kBits>
LATHE_CLONES void pack_block(const CodeLayout& layout, const int8_t* codes, const int64_t* offsets,
                             uint32_t* words) {
  const int32_t count = device::words_of_block(layout);
  constexpr int32_t kFields = 32 / kBits;
  const uint32_t lowest = layout.twos_complement ? 0u : 1u << (kBits - 1);
  constexpr uint32_t kMask = (1u << kBits) - 1;
  for (int32_t word = 0; word < count; ++word) {
    uint32_t packed = 0;
    for (int32_t field = 0; field < kFields; ++field) {
      const auto code = static_cast<uint32_t>(static_cast<int32_t>(codes[offsets[word * kFields + field]]));
      packed |= ((code + lowest) & kMask) << (kBits * field);
    }
    words[word] = packed;
  }
}

template <int kBits>
LATHE_CLONES void unpack_block(const CodeLayout& layout, const uint32_t* words, const int64_t* offsets,
                               int8_t* codes) {
  const int32_t count = device::words_of_block(layout);
  constexpr int32_t kFields = 32 / kBits;
  for (int32_t word = 0; word < count; ++word) {
    for (int32_t field = 0; field < kFields; ++field)
      codes[offsets[word * kFields + field]] = device::code_of_field(layout, words[word], field);
  }
}

/// A block over the edge of the codes: field by field.
struct EdgeBlock {
  const CodeLayout& layout;
  const CodeMatrix& matrix;
  int64_t in, out;  // its first code
  uint32_t* words;

  template <class Body>  // body(word, field, code's place, or null beyond the edge)
  void each_field(const Body& body) const {
    for (int32_t word = 0; word < device::words_of_block(layout); ++word) {
      for (int32_t field = 0; field < device::fields_of_word(layout); ++field) {
        const CodePlace place = device::code_place(layout, word, field);
        const int64_t k = in + place.in, n = out + place.out;
        const bool inside = k < matrix.in && n < matrix.out;
        body(word, field, inside ? matrix.codes + n * matrix.in + k : nullptr);
      }
    }
  }
  void pack() const {
    std::fill_n(words, device::words_of_block(layout), 0u);
    each_field([&](int32_t word, int32_t field, const int8_t* code) {
      if (code != nullptr) words[word] |= device::field_of_code(layout, *code) << (layout.bits * field);
    });
  }
  void unpack() const {
    each_field([&](int32_t word, int32_t field, int8_t* code) {
      if (code != nullptr) *code = device::code_of_field(layout, words[word], field);
    });
  }
};

template <class Whole, class Edge>  // whole(codes, words), edge(block)
void each_block(const CodeLayout& layout, const CodeMatrix& matrix, const Whole& whole, const Edge& edge) {
  const BlockSides sides = device::block_sides(layout);
  const int32_t words = device::words_of_block(layout);
  const int64_t along_in = layout.in / sides.in, strips = layout.out / sides.out;
  const int64_t grain = std::max<int64_t>(1, kGrainCodes / (sides.out * layout.in));
  at::parallel_for(0, strips, grain, [&](int64_t begin, int64_t end) {
    for (int64_t strip = begin; strip < end; ++strip) {
      for (int64_t i = 0; i < along_in; ++i) {
        const int64_t in = i * sides.in, out = strip * sides.out;
        uint32_t* at = matrix.words + device::block_number(layout, i, strip) * words;
        if (in + sides.in <= matrix.in && out + sides.out <= matrix.out) {
          whole(matrix.codes + out * matrix.in + in, at);
        } else {
          edge(EdgeBlock{layout, matrix, in, out, at});
        }
      }
    }
  });
}

/// body(the bits as a constant).
template <class Body>
void with_bits(int32_t bits, const Body& body) {
  if (bits == 2) return body(std::integral_constant<int, 2>());
  if (bits == 4) return body(std::integral_constant<int, 4>());
  body(std::integral_constant<int, 8>());
}

}  // namespace

void pack_codes(const CodeLayout& layout, const CodeMatrix& matrix) {
  const std::vector<int64_t> offsets = block_offsets(layout, matrix.in);
  with_bits(layout.bits, [&](auto bits) {
    each_block(
        layout, matrix,
        [&](const int8_t* codes, uint32_t* words) {
          pack_block<decltype(bits)::value>(layout, codes, offsets.data(), words);
        },
        [](const EdgeBlock& block) { block.pack(); });
  });
}

void unpack_codes(const CodeLayout& layout, const CodeMatrix& matrix) {
  const std::vector<int64_t> offsets = block_offsets(layout, matrix.in);
  with_bits(layout.bits, [&](auto bits) {
    each_block(
        layout, matrix,
        [&](int8_t* codes, const uint32_t* words) {
          unpack_block<decltype(bits)::value>(layout, words, offsets.data(), codes);
        },
        [](const EdgeBlock& block) { block.unpack(); });
  });
}

void pack_exllama3(const CodeMatrix& matrix) {
  const int64_t grain = std::max<int64_t>(1, kGrainCodes / matrix.in);
  at::parallel_for(0, matrix.out, grain, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      for (int64_t row = 0; row < matrix.in / 32 * 3; ++row) {
        const int8_t* codes = matrix.codes + n * matrix.in + row / 3 * 32;
        matrix.words[row * matrix.out + n] = device::exllama3_pack(codes, 1, static_cast<int32_t>(row % 3));
      }
    }
  });
}

void unpack_exllama3(const CodeMatrix& matrix) {
  const int64_t grain = std::max<int64_t>(1, kGrainCodes / matrix.in);
  at::parallel_for(0, matrix.out, grain, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      for (int64_t k = 0; k < matrix.in; ++k) {
        matrix.codes[n * matrix.in + k] = device::exllama3_code(matrix.words + k / 32 * 3 * matrix.out + n,
                                                                matrix.out, static_cast<int32_t>(k % 32));
      }
    }
  });
}

namespace {
/// body(row, column, place in the tiles); rows and columns of the tiles, in parallel over rows of tiles.
template <class Body>
void each_scale(const ScaleMatrix& matrix, const Body& body) {
  const int64_t columns = (matrix.columns + 3) / 4 * 4;
  at::parallel_for(0, (matrix.rows + 127) / 128, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin * 128; row < end * 128; ++row) {
      for (int64_t column = 0; column < columns; ++column)
        body(row, column, device::swizzled_scale(row, column, columns));
    }
  });
}
}  // namespace

void swizzle_scales(const ScaleMatrix& matrix) {
  each_scale(matrix, [&](int64_t row, int64_t column, int64_t place) {
    const bool inside = row < matrix.rows && column < matrix.columns;
    matrix.tiles[place] = inside ? matrix.rows_of_scales[row * matrix.columns + column] : 0;
  });
}

void unswizzle_scales(const ScaleMatrix& matrix) {
  each_scale(matrix, [&](int64_t row, int64_t column, int64_t place) {
    if (row < matrix.rows && column < matrix.columns)
      matrix.rows_of_scales[row * matrix.columns + column] = matrix.tiles[place];
  });
}

}  // namespace lathe::kernels::cpu
