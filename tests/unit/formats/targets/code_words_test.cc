#include "formats/targets/code_words.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "formats/targets/bitpack.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

at::Tensor any_codes(int64_t out, int64_t in, int bits) {
  const int64_t half = int64_t{1} << (bits - 1);
  return at::randint(-half, half, {out, in}, at::kChar);
}

TEST(CodeWords, GptqIsWhatTheDefinitionSays) {
  at::manual_seed(1);
  for (const int bits : {2, 3, 4, 8}) {
    for (const auto& [out, in] : {std::pair<int64_t, int64_t>{1, 32}, {5, 96}, {17, 64}}) {
      const at::Tensor codes = any_codes(out, in, bits);
      const at::Tensor words = pack_gptq_words(codes, bits);
      EXPECT_TRUE(words.equal(pack_gptq_words_reference(codes, bits))) << bits << " " << out;
    }
  }
}

TEST(CodeWords, AwqIsWhatTheDefinitionSays) {
  at::manual_seed(2);
  for (const auto& [out, in] : {std::pair<int64_t, int64_t>{8, 1}, {24, 37}, {136, 5}}) {
    const at::Tensor codes = any_codes(out, in, 4);
    EXPECT_TRUE(pack_awq_words(codes).equal(pack_awq_words_reference(codes))) << out;
  }
}

TEST(CodeWords, RowsAreBitStreams) {
  at::manual_seed(4);
  for (int bits = 2; bits <= 8; ++bits) {
    for (const int64_t n : {1, 7, 8, 31, 32, 200, 203}) {
      const at::Tensor codes = any_codes(3, n, bits);
      const at::Tensor words = pack_row_words(codes, bits);
      EXPECT_TRUE(words.equal(pack_rows(to_fields(codes, bits), bits))) << bits << " " << n;
      EXPECT_TRUE(unpack_row_words(words, bits, n).equal(codes)) << bits << " " << n;
    }
  }
}

/// The examples of the formats' descriptions.
TEST(CodeWords, KnownWords) {
  const at::Tensor rows = (at::arange(1, 9, at::kInt) - 8).to(at::kChar).view({1, 8});
  EXPECT_EQ(static_cast<uint32_t>(pack_gptq_words(rows, 4)[0][0].item<int32_t>()), 0x87654321u);
  const at::Tensor columns = (at::arange(0, 8, at::kInt) - 8).to(at::kChar).view({8, 1});
  EXPECT_EQ(static_cast<uint32_t>(pack_awq_words(columns)[0][0].item<int32_t>()), 0x75316420u);
  // Fields 10 and 21 of 3 bits straddle two words.
  at::Tensor three = at::full({1, 32}, -4, at::kChar);
  three[0][10] = three[0][21] = 3;
  const at::Tensor words = pack_gptq_words(three, 3);
  EXPECT_EQ(static_cast<uint32_t>(words[0][0].item<int32_t>()), 0xc0000000u);
  EXPECT_EQ(static_cast<uint32_t>(words[1][0].item<int32_t>()), 0x80000001u);
  EXPECT_EQ(static_cast<uint32_t>(words[2][0].item<int32_t>()), 0x00000003u);
}

/// Shapes larger than a tile, in blocks that end anywhere.
TEST(CodeWords, UnpackingReverses) {
  at::manual_seed(3);
  for (const int bits : {2, 3, 4, 8}) {
    const at::Tensor codes = any_codes(67, 12320, bits);
    EXPECT_TRUE(unpack_gptq_words(pack_gptq_words(codes, bits), bits).equal(codes)) << bits;
  }
  for (const auto& [out, in] : {std::pair<int64_t, int64_t>{136, 1155}, {8, 384}, {256, 385}}) {
    const at::Tensor codes = any_codes(out, in, 4);
    EXPECT_TRUE(unpack_awq_words(pack_awq_words(codes)).equal(codes)) << out;
  }
}

TEST(CodeWords, ThreadsChangeNothing) {
  const at::Tensor codes = any_codes(512, 1024, 3);
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor one = pack_gptq_words(codes, 3);
  at::set_num_threads(4);
  EXPECT_TRUE(pack_gptq_words(codes, 3).equal(one));
  at::set_num_threads(before);
}

TEST(CodeWords, ACodeOutsideItsBitsIsOurBug) {
  for (const int bad : {-9, 8, 127, -128}) {
    at::Tensor codes = at::zeros({8, 64}, at::kChar);
    codes[7][63] = bad;
    EXPECT_THROW(pack_gptq_words(codes, 4), InternalError) << bad;
    EXPECT_THROW(pack_awq_words(codes), InternalError) << bad;
    EXPECT_THROW(pack_row_words(codes.narrow(1, 0, 64), 4), InternalError) << bad;
  }
  at::Tensor codes = at::zeros({1, 32}, at::kChar);
  codes[0][0] = -5;
  EXPECT_THROW(pack_gptq_words(codes, 3), InternalError);
  EXPECT_THROW(pack_gptq_words(at::zeros({1, 31}, at::kChar), 4), InternalError);
}

}  // namespace
}  // namespace lathe
