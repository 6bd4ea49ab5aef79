// GGUF files written by us and read back, and files with each field of the header broken in turn.
#include "formats/gguf/gguf_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <string>

#include "formats/gguf/gguf_writer.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

using testing::HasSubstr;

std::filesystem::path temporary(const std::string& name) {
  return std::filesystem::path(testing::TempDir()) / ("lathe_gguf_" + name);
}

/// A key of every type.
GgufMetadata metadata() {
  GgufMetadata keys;
  const auto add = [&](const char* key, GgufValue value) { keys.emplace_back(key, std::move(value)); };
  add("general.architecture", std::string("llama"));
  add("a.u8", uint8_t{200});
  add("a.i8", int8_t{-3});
  add("a.u16", uint16_t{65535});
  add("a.i16", int16_t{-30000});
  add("a.u32", uint32_t{4000000000});
  add("a.i32", int32_t{-7});
  add("a.f32", 0.25f);
  add("a.bool", GgufBool::yes);
  add("a.u64", uint64_t{1} << 60);
  add("a.i64", int64_t{-1} << 60);
  add("a.f64", 1e-300);
  add("tokens", GgufArray(std::vector<std::string>{"<s>", "", "\xE2\x96\x81"}));
  add("scores", GgufArray(std::vector<float>{0, -1.5f}));
  add("flags", GgufArray(std::vector<GgufBool>{GgufBool::no, GgufBool::yes}));
  return keys;
}

const std::vector<GgufPlan> kTensors = {{"norm.weight", GgmlType::F32, {3}},
                                        {"blk.0.attn_q.weight", GgmlType::Q4_0, {2, 64}},
                                        {"output.weight", GgmlType::F16, {2, 5}}};

std::vector<std::byte> pattern(size_t size, int seed) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 + static_cast<size_t>(seed));
  return bytes;
}

/// A small whole file.
std::string whole_file() {
  const auto path = temporary("whole.gguf");
  GgufWriter writer(path, metadata(), kTensors);
  for (size_t i = kTensors.size(); i-- > 0;) {  // in any order, and in pieces
    const auto bytes = pattern(kTensors[i].bytes(), static_cast<int>(i));
    const size_t half = bytes.size() / 2;
    writer.write(kTensors[i].name, std::span(bytes).subspan(half), half);
    writer.write(kTensors[i].name, std::span(bytes).first(half));
  }
  writer.finish();
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string refusal(const std::string& contents) {
  const auto path = temporary("hostile.gguf");
  std::ofstream(path, std::ios::binary) << contents;
  try {
    GgufFile::open(path);
  } catch (const UserError& error) {
    const std::string text = error.what();
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    EXPECT_THAT(text, HasSubstr("hostile.gguf"));
    return text;
  }
  return {};
}

template <class T>
std::string with(std::string contents, size_t at, T value) {
  std::memcpy(contents.data() + at, &value, sizeof value);
  return contents;
}

/// Where the bytes of `text` stand, and `after` further on.
size_t place(const std::string& contents, const std::string& text, size_t after = 0) {
  const size_t at = contents.find(text);
  EXPECT_NE(at, std::string::npos);
  return at + after;
}

TEST(GgufFile, ReadsBackWhatTheWriterWrote) {
  whole_file();
  const GgufFile file = GgufFile::open(temporary("whole.gguf"));
  EXPECT_TRUE(file.metadata() == metadata());
  ASSERT_EQ(file.tensors().size(), kTensors.size());
  for (size_t i = 0; i < kTensors.size(); ++i) {
    const GgufTensor* tensor = file.tensor(kTensors[i].name);
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(tensor->type, kTensors[i].type);
    EXPECT_EQ(tensor->shape, kTensors[i].shape);
    const auto bytes = pattern(kTensors[i].bytes(), static_cast<int>(i));
    ASSERT_EQ(tensor->bytes.size(), bytes.size());
    EXPECT_EQ(0, std::memcmp(tensor->bytes.data(), bytes.data(), bytes.size()));
    const auto offset = tensor->bytes.data() - file.tensors().front().bytes.data();
    EXPECT_EQ(offset % static_cast<int64_t>(kGgufAlignment), 0);
  }
  EXPECT_EQ(file.tensor("none"), nullptr);
  EXPECT_EQ(describe(*file.find("tokens")), "array of 3 string");
  EXPECT_TRUE(is_gguf(file.path()));
}

TEST(GgufFile, EveryTruncationIsOneLine) {
  const std::string contents = whole_file();
  // The last tensor's padding may be missing: 2 rows of 5 halves take 20 of its 32 bytes.
  for (size_t size = 1; size + 12 < contents.size(); ++size)
    ASSERT_NE(refusal(contents.substr(0, size)), "") << size;
  EXPECT_EQ(refusal(contents), "");
}

TEST(GgufFile, EveryByteOfTheHeaderMayBeAnything) {
  const std::string contents = whole_file();
  const size_t header = format_gguf_header(metadata(), kTensors).size();
  for (size_t at = 0; at < header; ++at) {
    for (const char change : {'\x01', '\x80', '\xFF'}) {
      std::string broken = contents;
      broken[at] = static_cast<char>(broken[at] ^ change);
      refusal(broken);  // read or refused in one line; nothing else
    }
  }
}

TEST(GgufFile, EachFieldBrokenInTurn) {
  const std::string good = whole_file();
  const size_t tensor = place(good, "blk.0.attn_q.weight", 19), key = place(good, "a.u32", 5);
  const uint64_t huge = ~uint64_t{0};
  const std::vector<std::pair<std::string, std::string>> rows = {
      {with(good, 0, 'X'), "at byte 4: expected a GGUF file"},
      {with(good, 4, uint32_t{2}), "version: expected 3, found 2"},
      {with(good, 4, uint32_t{0x03000000}), "a big-endian file"},
      {with(good, 8, huge), "tensor count: 18446744073709551615 can't be true"},
      {with(good, 16, huge), "key count: 18446744073709551615 can't be true"},
      {with(good, 24, huge), "a key: 18446744073709551615 can't be true"},
      {with(good, key, uint32_t{13}), "key 'a.u32': expected a value type from 0 to 12, found 13"},
      {with(good, place(good, "a.bool", 10), uint8_t{2}), "key 'a.bool': expected a bool, 0 or 1, found 2"},
      {with(good, place(good, "tokens", 10), uint32_t{9}), "key 'tokens': an array of arrays"},
      {with(good, place(good, "tokens", 14), huge), "length of key 'tokens': 18446744073709551615"},
      {with(good, tensor, uint32_t{5}), "expected 1 to 4 dimensions, found 5"},
      {with(good, tensor + 4, uint64_t{0}), "expected sizes of at least 1, found 0"},
      {with(good, tensor + 4, uint64_t{65}), "rows of 65 values can't be cut into Q4_0 blocks of 32"},
      {with(good, tensor + 12, uint64_t{1} << 60), "product does not fit in 63 bits"},
      {with(good, tensor + 12, uint64_t{1} << 40), "are beyond the file's end"},
      {with(good, tensor + 20, uint32_t{4}), "its type 4 is not one that Lathe reads (F32, F16"},
      {with(good, tensor + 24, uint64_t{64}),
       "expected the offset 32, where the bytes before it end, found 64"},
      {good.substr(0, good.size() - 40), "is it complete?"}};
  for (const auto& [contents, expected] : rows) {
    EXPECT_THAT(refusal(contents), HasSubstr(expected));
  }
  std::string twice = good;
  twice.replace(place(good, "a.i16"), 5, "a.u16");
  EXPECT_THAT(refusal(twice), HasSubstr("key 'a.u16': stands twice"));
  GgufMetadata alignment = {{"general.alignment", uint32_t{24}}};
  EXPECT_THAT(refusal(format_gguf_header(alignment, {})), HasSubstr("general.alignment: expected a u32"));
  alignment.front().second = std::string("32");
  EXPECT_THAT(refusal(format_gguf_header(alignment, {})), HasSubstr("found string 32"));
}

TEST(GgufFile, LibrarysOwnFileIsRead) {
  const GgufFile file = GgufFile::open(LATHE_SOURCE_DIR "/tests/golden/gguf/tiny_llama_q8_0.gguf");
  EXPECT_EQ(describe(*file.find("general.architecture")), "llama");
  EXPECT_FALSE(file.tensors().empty());
  for (const GgufTensor& tensor : file.tensors()) EXPECT_GT(tensor.bytes.size(), 0u) << tensor.name;
}

TEST(GgufWriter, RefusesLongNamesAndBrokenPromises) {
  const std::string name(64, 'n');
  EXPECT_THROW(format_gguf_header({}, {{name, GgmlType::F32, {1}}}), UserError);
  EXPECT_THROW(format_gguf_header({{"k", uint8_t{1}}, {"k", uint8_t{1}}}, {}), InternalError);
  EXPECT_THROW(format_gguf_header({}, {{"t", GgmlType::Q4_K, {128}}}), InternalError);
  EXPECT_THROW(GgufWriter("/nowhere/x.gguf", {}, {}), UserError);
  GgufWriter writer(temporary("promises.gguf"), {}, {{"t", GgmlType::F32, {2}}});
  const auto bytes = pattern(8, 0);
  EXPECT_THROW(writer.write("u", bytes), InternalError);
  EXPECT_THROW(writer.write("t", bytes, 1), InternalError);
  EXPECT_THROW(writer.finish(), InternalError);
  writer.write("t", bytes);
  writer.finish();
}

}  // namespace
}  // namespace lathe
