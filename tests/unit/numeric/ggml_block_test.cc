// ggml's block layouts against gguf-py's own values (tests/tools/make_gguf_golden.py), bit for bit.
#include "lib/numeric/ggml_block.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "lib/base/file.h"

namespace lathe {
namespace {

struct Golden {
  std::vector<std::byte> blocks;
  std::vector<float> values;
};

Golden read_golden(const GgmlTraits& format) {
  const std::string path =
      std::string(LATHE_SOURCE_DIR "/tests/golden/gguf/") + std::string(format.name) + ".bin";
  const MappedFile file = MappedFile::open(path);
  int32_t count = 0;
  std::memcpy(&count, file.bytes().data(), sizeof count);
  Golden golden;
  golden.blocks.resize(static_cast<size_t>(count * format.bytes));
  golden.values.resize(static_cast<size_t>(count * format.length));
  const std::byte* bytes = file.bytes().data() + sizeof count;
  std::memcpy(golden.blocks.data(), bytes, golden.blocks.size());
  std::memcpy(golden.values.data(), bytes + golden.blocks.size(), golden.values.size() * sizeof(float));
  return golden;
}

TEST(GgmlBlockLibrary, ValuesAreThoseOfGgufPyBitForBit) {
  int types = 0;
  for (const GgmlTraits& format : ggml_types()) {
    if (format.length == 1 || !format.made) continue;
    ++types;
    const Golden golden = read_golden(format);
    std::vector<float> values(golden.values.size());
    decode_ggml(format.type, golden.blocks.data(), static_cast<int64_t>(values.size()), values.data());
    for (size_t i = 0; i < values.size(); ++i) {
      // gguf-py's zeros have no sign where a minimum is subtracted as a negative sum.
      if (values[i] == 0 && golden.values[i] == 0) continue;
      ASSERT_EQ(std::bit_cast<uint32_t>(values[i]), std::bit_cast<uint32_t>(golden.values[i]))
          << format.name << " value " << i << ": " << values[i] << " against " << golden.values[i];
    }
  }
  EXPECT_EQ(types, 15);
}

TEST(GgmlBlock, PackGivesTheBytesBackThatUnpackRead) {
  for (const GgmlTraits& format : ggml_types()) {
    if (format.length == 1 || !format.made) continue;
    const Golden golden = read_golden(format);
    std::vector<uint8_t> again(static_cast<size_t>(format.bytes));
    for (size_t at = 0; at < golden.blocks.size(); at += again.size()) {
      GgmlBlock block;
      unpack(format.type, reinterpret_cast<const uint8_t*>(golden.blocks.data() + at), block);
      pack(format.type, block, again.data());
      ASSERT_EQ(0, std::memcmp(again.data(), golden.blocks.data() + at, again.size()))
          << format.name << " at byte " << at;
    }
  }
}

TEST(GgmlBlock, EveryFieldReachesItsOwnBits) {
  std::mt19937 random(3);
  for (const GgmlTraits& format : ggml_types()) {
    if (format.length == 1 || !format.made) continue;
    const bool sub_scaled = format.scale_levels > 0;
    for (int trial = 0; trial < 20; ++trial) {
      GgmlBlock block;
      block.d = static_cast<uint16_t>(random() & (format.type == GgmlType::MXFP4 ? 0xFF : 0xFFFF));
      if (format.has_min) block.dmin = static_cast<uint16_t>(random());
      for (int64_t g = 0; sub_scaled && g < format.length / format.group; ++g) {
        block.scales[g] = static_cast<uint8_t>(random() % static_cast<unsigned>(format.scale_levels));
        if (format.has_min)
          block.mins[g] = static_cast<uint8_t>(random() % static_cast<unsigned>(format.scale_levels));
      }
      for (int64_t i = 0; i < format.length; ++i)
        block.codes[i] = static_cast<uint8_t>(random() % static_cast<unsigned>(format.levels));
      std::vector<uint8_t> bytes(static_cast<size_t>(format.bytes), 0xA5);
      pack(format.type, block, bytes.data());
      GgmlBlock again;
      unpack(format.type, bytes.data(), again);
      EXPECT_EQ(again.d, block.d) << format.name;
      EXPECT_EQ(again.dmin, block.dmin) << format.name;
      EXPECT_EQ(again.scales, block.scales) << format.name;
      EXPECT_EQ(again.mins, block.mins) << format.name;
      EXPECT_EQ(again.codes, block.codes) << format.name;
    }
  }
}

TEST(GgmlType, NamesNumbersAndSizes) {
  EXPECT_EQ(parse_ggml_type("Q4_K"), GgmlType::Q4_K);
  EXPECT_EQ(parse_ggml_type("q4_k"), std::nullopt);
  EXPECT_EQ(ggml_type_of_id(39), GgmlType::MXFP4);
  EXPECT_EQ(ggml_type_of_id(4), std::nullopt);  // Q4_2, removed from ggml
  EXPECT_EQ(row_bytes(GgmlType::Q4_K, 512), 288);
  EXPECT_DOUBLE_EQ(bits_per_weight(GgmlType::Q6_K), 6.5625);
  for (const GgmlTraits& format : ggml_types()) EXPECT_EQ(&traits(format.type), &format);
}

TEST(GgmlDecode, PlainNumbersNeedNoAlignment) {
  std::vector<std::byte> bytes(9);
  const float value = -1.5f;
  std::memcpy(bytes.data() + 1, &value, sizeof value);
  float out = 0;
  decode_ggml(GgmlType::F32, bytes.data() + 1, 1, &out);
  EXPECT_EQ(out, value);
  const uint16_t half = to_half(value), brain = static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
  std::memcpy(bytes.data() + 1, &half, sizeof half);
  decode_ggml(GgmlType::F16, bytes.data() + 1, 1, &out);
  EXPECT_EQ(out, value);
  std::memcpy(bytes.data() + 1, &brain, sizeof brain);
  decode_ggml(GgmlType::BF16, bytes.data() + 1, 1, &out);
  EXPECT_EQ(out, value);
}

}  // namespace
}  // namespace lathe
