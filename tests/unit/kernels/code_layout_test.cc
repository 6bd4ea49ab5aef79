// Where each layout puts codes: a permutation, whatever the shape; and the CPU's packer by it.
#include "lib/kernels/code_layout.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <set>

namespace lathe::kernels {
namespace {

using device::CodeLayout;
using device::CodeOrder;

/// Every layout, of a size with a few blocks each way.
std::vector<CodeLayout> all_layouts() {
  std::vector<CodeLayout> layouts;
  for (const int bits : {4, 8}) {
    for (const CodeOrder order : {CodeOrder::rows, CodeOrder::exllama, CodeOrder::marlin, CodeOrder::machete})
      layouts.push_back({order, bits, 192, 256});
    CodeLayout trtllm{CodeOrder::trtllm, bits, 192, 256};
    for (const bool shuffled : {true, false}) {
      for (const int columns : {1, 16 / bits}) {
        trtllm.shuffled = shuffled;
        trtllm.twos_complement = !shuffled;
        trtllm.columns = columns;
        layouts.push_back(trtllm);
      }
    }
  }
  layouts.push_back({CodeOrder::gemv_fast, 4, 192, 256});
  layouts.push_back({CodeOrder::exllama, 2, 192, 256});
  return layouts;
}

/// Straight from the definition: field by field.
at::Tensor pack_reference(const at::Tensor& codes, const CodeLayout& layout) {
  const int64_t in = codes.size(1), out = codes.size(0);
  at::Tensor words = at::zeros({device::words_of_layout(layout)}, at::kInt);
  auto* to = reinterpret_cast<uint32_t*>(words.data_ptr<int32_t>());
  const auto sides = device::block_sides(layout);
  for (int64_t i = 0; i < layout.in / sides.in; ++i) {
    for (int64_t o = 0; o < layout.out / sides.out; ++o) {
      for (int word = 0; word < device::words_of_block(layout); ++word) {
        for (int field = 0; field < device::fields_of_word(layout); ++field) {
          const auto place = device::code_place(layout, word, field);
          const int64_t k = i * sides.in + place.in, n = o * sides.out + place.out;
          if (k >= in || n >= out) continue;
          const int8_t code = codes.const_data_ptr<int8_t>()[n * in + k];
          to[device::block_number(layout, i, o) * device::words_of_block(layout) + word] |=
              device::field_of_code(layout, code) << (layout.bits * field);
        }
      }
    }
  }
  return words;
}

at::Tensor random_codes(int64_t out, int64_t in, int bits) {
  return at::randint(-(1 << (bits - 1)), 1 << (bits - 1), {out, in}, at::kChar);
}

TEST(CodeLayout, PlacesOfABlockAreAPermutation) {
  for (const CodeLayout& layout : all_layouts()) {
    const auto sides = device::block_sides(layout);
    std::set<std::pair<int, int>> places;
    for (int word = 0; word < device::words_of_block(layout); ++word) {
      for (int field = 0; field < device::fields_of_word(layout); ++field) {
        const auto place = device::code_place(layout, word, field);
        EXPECT_TRUE(place.in >= 0 && place.in < sides.in && place.out >= 0 && place.out < sides.out);
        places.emplace(place.in, place.out);
      }
    }
    EXPECT_EQ(places.size(), static_cast<size_t>(sides.in) * sides.out) << static_cast<int>(layout.order);
  }
}

TEST(CodeLayout, BlocksAreASequence) {
  for (const CodeLayout& layout : all_layouts()) {
    const auto sides = device::block_sides(layout);
    std::set<int64_t> numbers;
    for (int64_t i = 0; i < layout.in / sides.in; ++i) {
      for (int64_t o = 0; o < layout.out / sides.out; ++o) numbers.insert(device::block_number(layout, i, o));
    }
    EXPECT_EQ(static_cast<int64_t>(numbers.size()), layout.in / sides.in * (layout.out / sides.out));
    EXPECT_EQ(*numbers.rbegin(), static_cast<int64_t>(numbers.size()) - 1);
  }
}

TEST(CodeLayout, PacksByTheDefinitionAndUnpacksOverOddShapes) {
  at::manual_seed(3);
  for (const CodeLayout& layout : all_layouts()) {
    for (const auto& [out, in] : {std::pair<int64_t, int64_t>{256, 192}, {250, 187}, {1, 1}, {129, 65}}) {
      const at::Tensor codes = random_codes(out, in, layout.bits);
      const at::Tensor words = pack_codes(codes, layout);
      EXPECT_TRUE(words.equal(pack_reference(codes, layout)))
          << static_cast<int>(layout.order) << ' ' << layout.bits << " [" << out << ", " << in << ']';
      EXPECT_TRUE(unpack_codes(words, layout, out, in).equal(codes));
    }
  }
}

TEST(CodeLayout, TheSameBytesOnAnyNumberOfThreads) {
  const CodeLayout layout{CodeOrder::marlin, 4, 256, 512};
  const at::Tensor codes = random_codes(512, 250, 4);
  const int threads = at::get_num_threads();
  const at::Tensor words = pack_codes(codes, layout);
  for (const int count : {1, 3}) {
    at::set_num_threads(count);
    EXPECT_TRUE(pack_codes(codes, layout).equal(words));
    EXPECT_TRUE(unpack_codes(words, layout, 512, 250).equal(codes));
  }
  at::set_num_threads(threads);
}

TEST(CodeLayout, ExllamasThreeBitsComeBack) {
  at::manual_seed(4);
  for (const auto& [out, in] : {std::pair<int64_t, int64_t>{1, 32}, {7, 96}, {33, 160}}) {
    const at::Tensor codes = random_codes(out, in, 3);
    const at::Tensor words = pack_exllama3(codes);
    EXPECT_EQ(words.size(0), in * 3 / 32);
    EXPECT_TRUE(unpack_exllama3(words).equal(codes));
  }
}

TEST(CodeLayout, OneCodeChangesOneFieldOnly) {
  // Each field holds its whole code and nothing of a neighbour's.
  for (const CodeLayout& layout : all_layouts()) {
    at::Tensor codes = at::zeros({layout.out, layout.in}, at::kChar);
    const at::Tensor before = pack_codes(codes, layout);
    codes[37][101] = -1;
    const at::Tensor changed = pack_codes(codes, layout) - before;
    EXPECT_EQ(changed.nonzero().size(0), 1);
  }
}

TEST(ScaleTiles, FollowTheFormulaAndComeBack) {
  at::manual_seed(6);
  for (const auto& [rows, columns] :
       {std::pair<int64_t, int64_t>{128, 4}, {1, 1}, {200, 10}, {256, 32}, {129, 5}, {384, 3}}) {
    const at::Tensor scales = at::randint(1, 256, {rows, columns}, at::kByte);
    const at::Tensor tiles = swizzle_scales(scales);
    EXPECT_EQ(tiles.size(0) % 128, 0);
    EXPECT_EQ(tiles.size(1) % 4, 0);
    EXPECT_TRUE(unswizzle_scales(tiles, rows, columns).equal(scales));
    EXPECT_EQ(tiles.sum().item<int64_t>(), scales.sum().item<int64_t>());  // the padding is zero
  }
  // CUTLASS's atom: row r of 32 x 4 at stride 16 and 4, column at stride 1.
  EXPECT_EQ(device::swizzled_scale(33, 2, 8), 16 + 4 + 2);
  EXPECT_EQ(device::swizzled_scale(0, 4, 8), 512);
  EXPECT_EQ(device::swizzled_scale(128, 0, 8), 1024);
}

}  // namespace
}  // namespace lathe::kernels
