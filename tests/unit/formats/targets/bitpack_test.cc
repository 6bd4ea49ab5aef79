#include "formats/targets/bitpack.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "lib/base/error.h"

namespace lathe {
namespace {

std::vector<uint8_t> random_fields(size_t count, int bits, unsigned seed) {
  std::mt19937 generator(seed);
  std::uniform_int_distribution<int> field(0, (1 << bits) - 1);
  std::vector<uint8_t> fields(count);
  for (uint8_t& value : fields) value = static_cast<uint8_t>(field(generator));
  return fields;
}

// Worked examples of the two specifications, by hand.
TEST(Bitpack, FourBitWord) {
  const std::vector<uint8_t> fields = {1, 2, 3, 4, 5, 6, 7, 8};
  std::vector<uint32_t> words(1);
  pack_row(fields, 4, words);
  EXPECT_EQ(words[0], 0x87654321u);
}

TEST(Bitpack, ThreeBitFieldsStraddleWords) {
  std::vector<uint8_t> v(32);
  for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<uint8_t>((i * 5 + 1) % 8);
  uint32_t w0 = 0, w1 = uint32_t{v[10]} >> 2, w2 = uint32_t{v[21]} >> 1;
  for (size_t i = 0; i < 10; ++i) w0 |= uint32_t{v[i]} << (3 * i);
  w0 |= (v[10] & 3u) << 30;
  for (size_t i = 11; i < 21; ++i) w1 |= uint32_t{v[i]} << (1 + 3 * (i - 11));
  w1 |= (v[21] & 1u) << 31;
  for (size_t i = 22; i < 32; ++i) w2 |= uint32_t{v[i]} << (2 + 3 * (i - 22));
  std::vector<uint32_t> words(3);
  pack_row(v, 3, words);
  EXPECT_EQ(words, (std::vector<uint32_t>{w0, w1, w2}));
}

TEST(Bitpack, FastPathsEqualTheReferenceForEveryWidthAndLength) {
  for (int bits = 1; bits <= 8; ++bits) {
    for (size_t count = 0; count <= 131; ++count) {
      const auto fields = random_fields(count, bits, static_cast<unsigned>(count * 8 + bits));
      const auto width = static_cast<size_t>(packed_words(static_cast<int64_t>(count), bits));
      std::vector<uint32_t> expected(width),
          words(width, 0xDEADBEEF);  // what lay there before must not shine through
      pack_row_reference(fields, bits, expected);
      pack_row(fields, bits, words);
      ASSERT_EQ(words, expected) << bits << " bits, " << count << " fields";
      std::vector<uint8_t> slow(count, 0xAA), fast(count, 0x55);
      unpack_row_reference(expected, bits, slow);
      unpack_row(expected, bits, fast);
      ASSERT_EQ(slow, fields) << bits << " bits, " << count << " fields";
      ASSERT_EQ(fast, fields) << bits << " bits, " << count << " fields";
    }
  }
}

TEST(Bitpack, TailBitsAreZeroAndIgnored) {
  for (int bits = 1; bits <= 8; ++bits) {
    const std::vector<uint8_t> fields(5, static_cast<uint8_t>((1 << bits) - 1));
    std::vector<uint32_t> words(static_cast<size_t>(packed_words(5, bits)));
    pack_row(fields, bits, words);
    const uint64_t all = words[0] | (words.size() > 1 ? uint64_t{words[1]} << 32 : 0);
    EXPECT_EQ(all, (uint64_t{1} << (5 * bits)) - 1) << bits;
    words.back() |= 5 * bits % 32 == 0 ? 0 : ~uint32_t{0} << (5 * bits % 32);
    std::vector<uint8_t> back(5);
    unpack_row(words, bits, back);
    EXPECT_EQ(back, fields) << bits;
  }
}

TEST(Bitpack, RowsOfATensorStartOnWords) {
  at::manual_seed(1);
  for (int bits = 1; bits <= 8; ++bits) {
    const at::Tensor fields = at::randint(1 << bits, {37, 43}, at::kByte);
    const at::Tensor words = pack_rows(fields, bits);
    ASSERT_EQ(words.size(1), packed_words(43, bits));
    EXPECT_TRUE(unpack_rows(words, bits, 43).equal(fields)) << bits;
    EXPECT_TRUE(pack_rows(fields.narrow(0, 36, 1).contiguous(), bits).equal(words.narrow(0, 36, 1))) << bits;
  }
}

TEST(Bitpack, WrongSizesAreOurBug) {
  std::vector<uint32_t> words(2);
  const std::vector<uint8_t> fields(8);
  EXPECT_THROW(pack_row(fields, 4, words), InternalError);
  EXPECT_THROW(pack_row(fields, 9, words), InternalError);
}

}  // namespace
}  // namespace lathe
