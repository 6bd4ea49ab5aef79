// Token ids in .npy and .safetensors: every integer type, and files of all kinds of wrong.
#include <gmock/gmock.h>

#include <cstring>

#include "calib/data/npy_header.h"
#include "tests/unit/calib/data/data_files.h"

namespace lathe {
namespace {

using test::Ids;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string dict_of(const std::string& descr, const std::string& shape, const char* fortran = "False") {
  return "{'descr': " + descr + ", 'fortran_order': " + fortran + ", 'shape': " + shape + ", }";
}

/// A .npy file, its dict padded to `align` as NumPy does.
std::string npy(const std::string& dict, const std::string& data, char major = 1) {
  std::string header = dict;
  const size_t prefix = major == 1 ? 10 : 12;
  header.append(63 - (prefix + header.size()) % 64, ' ');
  header += '\n';
  std::string file = "\x93NUMPY";
  file += {major, '\0', static_cast<char>(header.size()), '\0'};
  if (major > 1) file.append(2, '\0');
  return file + header + data;
}

template <class Integer>
std::string bytes(const std::vector<Integer>& values) {
  std::string data(values.size() * sizeof(Integer), '\0');
  std::memcpy(data.data(), values.data(), data.size());
  return data;
}

class IdFiles : public test::DataFiles {
 protected:
  DataSource array(const std::string& contents) const { return file("a.npy", contents); }
  std::vector<Ids> read(const std::string& descr, const std::string& shape, const std::string& data) const {
    return documents(array(npy(dict_of(descr, shape), data)));
  }
  std::vector<Ids> raw(const std::string& descr, const std::string& shape, const std::string& data) const {
    return raw_documents(array(npy(dict_of(descr, shape), data)));
  }
  /// A safetensors file of one header and data.
  DataSource tensors(const std::string& header, const std::string& data, std::string field = "") const {
    std::string contents = bytes<uint64_t>({header.size()});
    return file("a.safetensors", contents + header + data, std::move(field));
  }
};

TEST_F(IdFiles, ReadsEveryIntegerType) {
  EXPECT_THAT(raw("'<i4'", "(3,)", bytes<int32_t>({5, 6, 70000})), ElementsAre(Ids{5, 6, 70000}));
  EXPECT_THAT(raw("'<i8'", "(1,)", bytes<int64_t>({1LL << 40})), ElementsAre(Ids{1LL << 40}));
  EXPECT_THAT(raw("'<u2'", "(2,)", bytes<uint16_t>({1, 65535})), ElementsAre(Ids{1, 65535}));
  EXPECT_THAT(raw("'<u4'", "(1,)", bytes<uint32_t>({4000000000u})), ElementsAre(Ids{4000000000}));
  EXPECT_THAT(raw("'|u1'", "(2,)", bytes<uint8_t>({1, 255})), ElementsAre(Ids{1, 255}));
  EXPECT_THAT(raw("'|i1'", "(1,)", bytes<int8_t>({127})), ElementsAre(Ids{127}));
  EXPECT_THAT(raw("'<i2'", "(1,)", bytes<int16_t>({300})), ElementsAre(Ids{300}));
  EXPECT_THAT(raw("'<u8'", "(1,)", bytes<uint64_t>({9})), ElementsAre(Ids{9}));
}

TEST_F(IdFiles, ARowOfAMatrixIsADocument) {
  EXPECT_THAT(read("'<i4'", "(2, 3)", bytes<int32_t>({1, 2, 3, 4, 5, 6})),
              ElementsAre(Ids{1, 2, 3}, Ids{4, 5, 6}));
  const std::string data = bytes<int32_t>({1, 2});
  EXPECT_THAT(documents(array(npy(dict_of("'<i4'", "(2,)"), data, 2))), ElementsAre(Ids{1, 2}));
  EXPECT_THAT(documents(array(npy(dict_of("'<i4'", "(2,)", "True"), data))), ElementsAre(Ids{1, 2}))
      << "one dimension has no order";
}

TEST_F(IdFiles, RefusesMalformedNpy) {
  const std::string two = bytes<int32_t>({1, 2});
  const std::string good = npy(dict_of("'<i4'", "(2,)"), two);
  const std::pair<std::string, const char*> table[] = {
      {"", "not a .npy file"},
      {"PK\x03\x04", "not a .npy file"},
      {good.substr(0, 6), "the header is cut off"},
      {good.substr(0, 9), "the header is cut off"},
      {good.substr(0, 40), "the header is cut off"},
      {good.substr(0, good.size() - 1),
       "truncated .npy file: shape [2] of '<i4' needs 8 bytes of data, found 7"},
      {good + "x", "malformed .npy file: shape [2] of '<i4' needs 8 bytes of data, found 9"},
      {npy(dict_of("'<i4'", "(2,)"), two, 9), "version 9.0 is not supported"},
      {npy(dict_of("'<i4'", "(2, 1)", "True"), two), "found Fortran order"},
      {npy(dict_of("'<f4'", "(2,)"), two),
       "expected little-endian integers ('<i4', '<i8', '<u2', ...), found "
       "dtype '<f4'"},
      {npy(dict_of("'|O'", "(2,)"), two), "found dtype '|O'"},
      {npy(dict_of("'>i4'", "(2,)"), two), "found dtype '>i4'"},
      {npy(dict_of("'<i3'", "(2,)"), two), "found dtype '<i3'"},
      {npy(dict_of("[('a', '<i4')]", "(2,)"), two), "structured dtypes hold no token ids"},
      {npy(dict_of("'<i4'", "()"), two), "expected token ids of shape [length] or [rows, length]"},
      {npy(dict_of("'<i4'", "(1, 1, 2)"), two), "expected token ids of shape"},
      {npy(dict_of("'<i4'", "(0,)"), ""), "shape [0] holds no token ids"},
      {npy(dict_of("'<i4'", "(3, 0)"), ""), "shape [3, 0] holds no token ids"},
      {npy(dict_of("'<i4'", "(-2,)"), two), "malformed .npy header: expected a size"},
      {npy(dict_of("'<i4'", "(99999999999999999999,)"), two), "expected a size"},
      {npy(dict_of("'<i4'", "(4611686018427387904, 4611686018427387904)"), two), "more than 2^64"},
      {npy(dict_of("'<i4'", "(2,"), two), "malformed .npy header"},
      {npy(dict_of("'<i4'", "(2,)", "false"), two), "expected True or False"},
      {npy("{'descr': '<i4', 'shape': (2,)}", two), "expected the keys descr, fortran_order and shape"},
      {npy("{'descr': '<i4', 'descr': '<i4'}", two), "each once"},
      {npy("{'descr': '<i4", two), "expected a closing quote"},
      {npy(dict_of("'<i4'", "(2,)") + "x", two), "nothing after the dict"},
      {npy("", two), "malformed .npy header"}};
  for (const auto& [contents, message] : table)
    EXPECT_THAT(error(array(contents)), HasSubstr(message)) << message;
}

// No byte of the header may bring the reader down: it reads, or it says what is wrong.
TEST_F(IdFiles, SurvivesEveryFlippedByte) {
  const std::string good = npy(dict_of("'<i4'", "(2, 2)"), bytes<int32_t>({1, 2, 3, 4}));
  size_t refused = 0;
  for (size_t i = 0; i < good.size(); ++i) {
    for (const int mask : {0x01, 0x20, 0x80}) {
      std::string changed = good;
      changed[i] = static_cast<char>(changed[i] ^ mask);
      const std::string message = error(array(changed));
      if (message == "no error") continue;
      EXPECT_THAT(message, HasSubstr("a.npy")) << i;
      ++refused;
    }
  }
  EXPECT_GT(refused, 200u);
}

TEST_F(IdFiles, NamesTheRowOfABadId) {
  encoder_.vocab_size = 100;
  EXPECT_THAT(error(array(npy(dict_of("'<i4'", "(2, 2)"), bytes<int32_t>({1, 2, 3, 100})))),
              HasSubstr("a.npy: row 1: element 1: expected token ids from 0 to 99 (the model's vocab_size is "
                        "100), found 100"));
  EXPECT_THAT(error(array(npy(dict_of("'<i8'", "(1,)"), bytes<int64_t>({-1})))),
              HasSubstr("a.npy: element 0: expected token ids"));
  EXPECT_THAT(error(array(npy(dict_of("'<u8'", "(1,)"), bytes<uint64_t>({~0ull})))), HasSubstr("found -1"));
}

TEST_F(IdFiles, WritesTheHeaderThatNumPyWrites) {
  // numpy 2.3.5: np.save of an int64 array of shape (2, 3).
  const std::string header = format_npy_header({2, 3});
  EXPECT_EQ(header, npy(dict_of("'<i8'", "(2, 3)"), ""));
  EXPECT_EQ(header.size(), 128u);
  EXPECT_THAT(documents(array(format_npy_header({2}) + bytes<int64_t>({7, 8}))), ElementsAre(Ids{7, 8}));
}

TEST_F(IdFiles, ANpyFileHasNoFields) {
  DataSource source = array(npy(dict_of("'<i4'", "(1,)"), bytes<int32_t>({1})));
  source.field = "text";
  EXPECT_THAT(error(source), HasSubstr("a .npy file has no fields"));
}

constexpr const char* kTwoRows =
    R"({"input_ids":{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]},"lengths":{"dtype":"I64","shape":[2],"data_offsets":[16,32]}})";

TEST_F(IdFiles, ReadsSafetensors) {
  const std::string ids = bytes<int32_t>({1, 2, 3, 4});
  EXPECT_THAT(documents(tensors(kTwoRows, ids + bytes<int64_t>({2, 1}))), ElementsAre(Ids{1, 2}, Ids{3}));
  EXPECT_THAT(documents(tensors(R"({"only":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})", "abc")),
              ElementsAre(Ids{'a', 'b', 'c'}));
  const char* two =
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})";
  EXPECT_THAT(documents(tensors(two, "xy", "b")), ElementsAre(Ids{'y'}));
}

/// Two rows of two ids, I32, and a mask of some dtype and shape behind them.
std::string masked_header(const std::string& dtype, const std::string& shape, size_t size) {
  return R"({"input_ids":{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]},"attention_mask":{"dtype":")" +
         dtype + R"(","shape":)" + shape + R"(,"data_offsets":[16,)" + std::to_string(16 + size) + "]}}";
}

TEST_F(IdFiles, AMaskBesideIdsCutsTheirPaddingOff) {
  const std::string ids = bytes<int32_t>({1, 2, 3, 4});
  const auto masked = [&](const char* dtype, const std::string& mask) {
    return tensors(masked_header(dtype, "[2,2]", mask.size()), ids + mask);
  };
  const Ids whole{1, 2}, cut{3};
  EXPECT_THAT(documents(masked("I64", bytes<int64_t>({1, 1, 1, 0}))), ElementsAre(whole, cut));
  EXPECT_THAT(documents(masked("I32", bytes<int32_t>({1, 1, 1, 0}))), ElementsAre(whole, cut));
  EXPECT_THAT(documents(masked("BOOL", bytes<uint8_t>({1, 1, 1, 0}))), ElementsAre(whole, cut));
  EXPECT_THAT(documents(masked("U8", bytes<uint8_t>({1, 1, 0, 0}))), ElementsAre(whole, Ids{}));
  const Ids left{4};
  EXPECT_THAT(documents(masked("I64", bytes<int64_t>({1, 1, 0, 1}))), ElementsAre(whole, left));
  EXPECT_THAT(error(masked("U8", bytes<uint8_t>({1, 7, 1, 1}))),
              HasSubstr("attention_mask: row 0: element 1: expected 0 or 1, found 7"));
  EXPECT_THAT(error(masked("F32", bytes<float>({1, 1, 1, 0}))),
              HasSubstr("a.safetensors: attention_mask: expected token ids of an integer dtype, found F32"));
  EXPECT_THAT(error(tensors(masked_header("U8", "[4]", 4), ids + bytes<uint8_t>({1, 1, 1, 0}))),
              HasSubstr("attention_mask: expected the shape of the token ids, [2, 2], found [4]"));
}

TEST_F(IdFiles, AMaskWithHolesIsRefused) {
  const char* header =
      R"({"input_ids":{"dtype":"U8","shape":[2,4],"data_offsets":[0,8]},"attention_mask":{"dtype":"U8","shape":[2,4],"data_offsets":[8,16]}})";
  const auto masked = [&](const std::vector<uint8_t>& mask) {
    return tensors(header, bytes<uint8_t>({1, 2, 3, 4, 5, 6, 7, 8}) + bytes(mask));
  };
  EXPECT_THAT(documents(masked({0, 1, 1, 0, 0, 0, 0, 1})), ElementsAre(Ids{2, 3}, Ids{8}));
  EXPECT_THAT(error(masked({1, 1, 1, 1, 0, 1, 0, 1})),
              HasSubstr("a.safetensors: attention_mask: row 1: element 3: expected ones in one piece with "
                        "padding before and behind it, found a 1 behind the 0 of element 2; leave such ids "
                        "out, or keep them in the context without counting them"));
}

TEST_F(IdFiles, WeightsFollowIdsBehindLeftPadding) {
  const char* header =
      R"({"input_ids":{"dtype":"U8","shape":[2,3],"data_offsets":[0,6]},"attention_mask":{"dtype":"U8","shape":[2,3],"data_offsets":[6,12]},"token_weights":{"dtype":"F32","shape":[2,3],"data_offsets":[12,36]}})";
  TokenStream stream;
  append(tensors(header, bytes<uint8_t>({9, 9, 1, 9, 2, 3}) + bytes<uint8_t>({0, 0, 1, 0, 1, 1}) +
                             bytes<float>({0, 0, 4, 0, 0, 5})),
         0, encoder_, stream, nullptr);
  EXPECT_THAT(stream.ids, ElementsAre(1, 2, 3));
  EXPECT_THAT(stream.weights, ElementsAre(4, 0, 5));
}

TEST_F(IdFiles, WeightsOfTokensAreChecked) {
  const auto weighted = [&](const std::string& shape, const std::vector<float>& weights) {
    const std::string header =
        R"({"input_ids":{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]},"token_weights":{"dtype":"F32","shape":)" +
        shape + R"(,"data_offsets":[16,)" + std::to_string(16 + 4 * weights.size()) + "]}}";
    std::string data = bytes<int32_t>({1, 2, 3, 4});
    data.append(reinterpret_cast<const char*>(weights.data()), 4 * weights.size());
    return tensors(header, data);
  };
  TokenStream stream;
  append(weighted("[2,2]", {1, 0.5F, 2, 3}), 0, encoder_, stream, nullptr);
  EXPECT_EQ(stream.weights, (std::deque<float>{1, 0.5F, 2, 3}));
  TokenStream none;
  append(weighted("[2,2]", {1, 0, 0, 3}), 0, encoder_, none, nullptr);
  EXPECT_EQ(none.weights, (std::deque<float>{1, 0, 0, 3})) << "context for those behind them";
  EXPECT_THAT(error(weighted("[4]", {1, 1, 1, 1})),
              HasSubstr("token_weights: expected F32 of the token ids' shape, [2, 2], found"));
  for (const float bad : {1e-7F, -1.0F, std::numeric_limits<float>::quiet_NaN(), 1e7F})
    EXPECT_THAT(error(weighted("[2,2]", {1, 1, bad, 1})),
                HasSubstr("token_weights: element 2: expected 1e-6 to 1e6, or 0 for tokens"));
}

TEST_F(IdFiles, WeightsOfAnArrayStandBesideIt) {
  const DataSource ids = array(npy(dict_of("'<i4'", "(2, 2)"), bytes<int32_t>({1, 2, 3, 4})));
  const auto weights = [&](const std::string& descr, const std::string& shape, const std::string& data) {
    file("a.weights.npy", npy(dict_of(descr, shape), data));
    TokenStream stream;
    append(ids, 0, encoder_, stream, nullptr);
    return std::vector<float>(stream.weights.begin(), stream.weights.end());
  };
  EXPECT_THAT(weights("'<f4'", "(2, 2)", bytes<float>({1, 0, 4, 1})), ElementsAre(1, 0, 4, 1));
  EXPECT_THAT(weights("'<f8'", "(2, 2)", bytes<double>({1, 0.5, 4, 1})), ElementsAre(1, 0.5F, 4, 1));
  const auto refused = [&](const std::string& descr, const std::string& shape, const std::string& data) {
    file("a.weights.npy", npy(dict_of(descr, shape), data));
    return error(ids);
  };
  const std::string four = bytes<float>({1, 1, 1, 1});
  EXPECT_THAT(refused("'<f4'", "(4,)", four),
              HasSubstr("a.weights.npy: expected the shape of the token ids, [2, 2], found [4]"));
  EXPECT_THAT(refused("'<i4'", "(2, 2)", four),
              HasSubstr("a.weights.npy: expected token weights of dtype '<f4' or '<f8', found '<i4'"));
  EXPECT_THAT(refused("'<f4'", "(2, 2)", four.substr(4)), HasSubstr("a.weights.npy: truncated .npy file"));
  EXPECT_THAT(refused("'<f4'", "(2, 2)", bytes<float>({1, 1, -1, 1})),
              HasSubstr("a.weights.npy: element 2: expected 1e-6 to 1e6, or 0"));
}

TEST_F(IdFiles, LengthsAndAMaskMustAgree) {
  const char* header =
      R"({"input_ids":{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]},"lengths":{"dtype":"I64","shape":[2],"data_offsets":[16,32]},"attention_mask":{"dtype":"U8","shape":[2,2],"data_offsets":[32,36]}})";
  const std::string start = bytes<int32_t>({1, 2, 3, 4}) + bytes<int64_t>({2, 1});
  EXPECT_THAT(documents(tensors(header, start + bytes<uint8_t>({1, 1, 1, 0}))),
              ElementsAre(Ids{1, 2}, Ids{3}));
  EXPECT_THAT(error(tensors(header, start + bytes<uint8_t>({1, 1, 1, 1}))),
              HasSubstr("a.safetensors: row 1: lengths says the first 1 ids, attention_mask 2 from element 0 "
                        "on; leave one of the two out"));
  EXPECT_THAT(error(tensors(header, start + bytes<uint8_t>({1, 1, 0, 1}))),
              HasSubstr("row 1: lengths says the first 1 ids, attention_mask 1 from element 1 on"));
}

TEST_F(IdFiles, RefusesMalformedSafetensors) {
  const std::string ids = bytes<int32_t>({1, 2, 3, 4});
  EXPECT_THAT(error(tensors(kTwoRows, ids + bytes<int64_t>({3, 1}))),
              HasSubstr("a.safetensors: lengths: row 0: expected 0 to 2, found 3"));
  EXPECT_THAT(error(tensors(kTwoRows, ids + bytes<int64_t>({1, -1}))), HasSubstr("row 1: expected 0 to 2"));
  EXPECT_THAT(error(tensors(kTwoRows, ids)), HasSubstr("a.safetensors"));  // truncated
  EXPECT_THAT(error(tensors(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "abcd")),
              HasSubstr("a.safetensors: x: expected token ids of an integer dtype, found F32 [1]"));
  EXPECT_THAT(error(tensors(R"({"x":{"dtype":"U8","shape":[1,1,1],"data_offsets":[0,1]}})", "a")),
              HasSubstr("expected token ids of shape"));
  EXPECT_THAT(
      error(tensors(
          R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
          "xy")),
      HasSubstr("no tensor 'input_ids'; its tensors are 'a' and 'b'"));
  EXPECT_THAT(error(tensors("{}", "")), HasSubstr("its tensors are none"));
  EXPECT_THAT(
      error(tensors(
          R"({"input_ids":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"lengths":{"dtype":"I64","shape":[1],"data_offsets":[2,10]}})",
          std::string(10, 'x'))),
      HasSubstr("lengths: expected one I64 for each row of ids, found I64 [1] beside ids of shape [2]"));
}

}  // namespace
}  // namespace lathe
