// Every way a safetensors file can lie, and what the reader says about it.
#include <gtest/gtest.h>

#include "tests/unit/formats/safetensors/checkpoint_files.h"

namespace lathe::test {
namespace {

struct HostileShard {
  const char* name;
  std::string file;
  std::string wanted;  // part of the message
};

void PrintTo(const HostileShard& row, std::ostream* out) { *out << row.name; }

/// One tensor 'a' whose entry has these values, and 12 bytes of data.
std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets,
                  size_t data = 12) {
  return shard_file(
      R"({"a":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}", data);
}
std::string with_dtype(const std::string& dtype) { return entry(dtype, "[2,3]", "[0,12]"); }
std::string with_shape(const std::string& shape) { return entry(R"("F16")", shape, "[0,12]"); }
std::string with_offsets(const std::string& offsets) { return entry(R"("F16")", "[2,3]", offsets); }

/// Two F16 [2, 3] tensors at these offsets.
std::string two(const std::string& first, const std::string& second, size_t data) {
  const std::string head = R"({"dtype":"F16","shape":[2,3],"data_offsets":)";
  return shard_file(R"({"a":)" + head + first + R"(},"b":)" + head + second + "}}", data);
}

std::string header(const std::string& text) { return shard_file(text, 0); }
std::string repeat(const std::string& text, size_t count) {
  std::string all;
  for (size_t i = 0; i < count; ++i) all += text;
  return all;
}

const std::string kGood = R"({"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]}})";
const std::string kGoodEntry = R"("a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]})";

std::vector<HostileShard> framing_rows() {
  return {
      {"empty", "", "0 bytes, too short"},
      {"seven_bytes", "1234567", "7 bytes, too short"},
      {"only_a_length", length_bytes(2), "only 0 follow"},
      {"length_zero", length_bytes(0), "starts with '{'"},
      {"length_beyond_file", length_bytes(1000) + kGood, "its header should take 1000 bytes"},
      {"length_one_too_long", length_bytes(kGood.size() + 1) + kGood, "the file is truncated"},
      {"length_over_limit", length_bytes(100'000'001) + kGood, "the limit is 100000000"},
      {"length_all_ones", length_bytes(~uint64_t{0}) + kGood, "a header of 18446744073709551615 bytes"},
      {"length_sign_bit", length_bytes(uint64_t{1} << 63) + kGood, "not a safetensors file"},
      {"git_lfs_pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
       "not a safetensors file"},
      {"html_page", "<!DOCTYPE html><html><body>404</body></html>", "not a safetensors file"},
      {"zip_file", std::string("PK\x03\x04\x00\x00\x08\x08", 8) + std::string(64, 'x'),
       "not a safetensors file"},
      {"truncated_in_header", shard_file(kGood, 12).substr(0, 30), "the file is truncated"},
      {"truncated_in_data", shard_file(kGood, 11), "the file holds only 11"},
      {"no_data_at_all", shard_file(kGood, 0), "truncated or damaged"},
      {"trailing_byte", shard_file(kGood, 13), "1 bytes follow the last tensor"},
      {"data_without_tensors", shard_file("{}", 12), "12 bytes follow the last tensor"},
  };
}

std::vector<HostileShard> json_rows() {
  const std::string deep_object = repeat(R"({"x":)", 200'000) + "1" + repeat("}", 200'000);
  return {
      {"utf8_byte_ff", header("{\"\xFF\":1}"), "not valid UTF-8 at byte 2"},
      {"utf8_overlong", header("{\"\xC0\xAF\":1}"), "not valid UTF-8"},
      {"utf8_surrogate", header("{\"\xED\xA0\x80\":1}"), "not valid UTF-8"},
      {"utf8_cut_off", header("{\"a\xE2\x82"), "not valid UTF-8"},
      {"byte_order_mark", header("\xEF\xBB\xBF" + kGood), "starts with '{'"},
      {"leading_space", header(" " + kGood), "starts with '{'"},
      {"top_level_list", header("[1]"), "starts with '{'"},
      {"unclosed", header(R"({"a":{"dtype":"F16")"), "not valid JSON near byte"},
      {"unclosed_string", header(R"({"a)"), "not valid JSON near byte"},
      {"second_object", header("{}{}"), "not valid JSON near byte"},
      {"nul_padding", header(std::string("{}\0\0", 4)), "a NUL at byte 2"},
      {"nul_hides_the_rest", header(std::string("{}\0{\"a\":1}", 10)), "a NUL at byte 2"},
      {"trailing_comma", shard_file("{" + kGoodEntry + ",}", 12), "not valid JSON"},
      {"comment", shard_file("{/* */" + kGoodEntry + "}", 12), "not valid JSON"},
      {"single_quotes", header("{'a':1}"), "not valid JSON"},
      {"raw_newline_in_string", header("{\"a\nb\":1}"), "not valid JSON"},
      {"lone_surrogate_escape", header(R"({"\ud800":1})"), "not valid JSON"},
      {"not_a_number", with_shape("[NaN]"), "not valid JSON"},
      {"number_out_of_range", with_shape("[1e999]"), "a number is out of range"},
      {"deep_lists", with_shape(repeat("[", 1'000'000)), "nested deeper than 3 levels"},
      {"deep_objects", header(deep_object), "nested deeper than 3 levels"},
      {"deep_metadata", header(R"({"__metadata__":)" + deep_object + "}"), "nested deeper than 3 levels"},
      {"tensor_twice", shard_file("{" + kGoodEntry + "," + kGoodEntry + "}", 12), "the key 'a' stands twice"},
      {"tensor_twice_by_escape",
       shard_file("{" + kGoodEntry + R"(,"\u0061":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]}})", 12),
       "the key 'a' stands twice"},
      {"dtype_twice",
       shard_file(R"({"a":{"dtype":"F16","dtype":"F32","shape":[2,3],"data_offsets":[0,12]}})", 12),
       "the key 'dtype' stands twice"},
      {"metadata_twice", header(R"({"__metadata__":{},"__metadata__":{}})"), "'__metadata__' stands twice"},
      {"metadata_key_twice", header(R"({"__metadata__":{"k":"1","k":"2"}})"), "the key 'k' stands twice"},
      {"metadata_number", header(R"({"__metadata__":{"k":1}})"), "'k': expected a string, found number"},
      {"metadata_nested", header(R"({"__metadata__":{"k":{}}})"), "'k': expected a string, found object"},
      {"metadata_list", header(R"({"__metadata__":[]})"), "'__metadata__': expected an object"},
      {"metadata_null", header(R"({"__metadata__":null})"), "'__metadata__': expected an object"},
      {"name_with_newline", header(R"({"a\nb":{}})"), "control character"},
      {"name_with_escape", header(R"({"a\u001b[2J":{}})"), "control character"},
      {"name_with_delete", header("{\"a\x7F\":{}}"), "control character"},
      {"name_of_100_kB", header("{\"" + std::string(100'000, 'n') + "\":{}}"),
       "nnn...': its name has 100000 bytes, expected at most 4096"},
  };
}

std::vector<HostileShard> entry_rows() {
  return {
      {"entry_number", header(R"({"a":1})"), "tensor 'a': expected an object"},
      {"entry_null", header(R"({"a":null})"), "tensor 'a': expected an object"},
      {"entry_string", header(R"({"a":"F16"})"), "tensor 'a': expected an object"},
      {"entry_list", header(R"({"a":[]})"), "tensor 'a': expected an object"},
      {"no_dtype", header(R"({"a":{"shape":[2,3],"data_offsets":[0,12]}})"), "has no 'dtype'"},
      {"no_shape", header(R"({"a":{"dtype":"F16","data_offsets":[0,12]}})"), "has no 'shape'"},
      {"no_offsets", header(R"({"a":{"dtype":"F16","shape":[2,3]}})"), "has no 'data_offsets'"},
      {"dtype_unknown", with_dtype(R"("F13")"), "unknown dtype 'F13'"},
      {"dtype_lower_case", with_dtype(R"("f16")"), "unknown dtype 'f16'"},
      {"dtype_empty", with_dtype(R"("")"), "unknown dtype ''"},
      {"dtype_with_newline", with_dtype(R"("F\n16")"), R"(unknown dtype 'F\n16')"},
      {"dtype_number", with_dtype("16"), "dtype: expected a string, found number"},
      {"shape_number", with_shape("6"), "shape: expected a list, found number"},
      {"shape_string", with_shape(R"("2,3")"), "shape: expected a list, found string"},
      {"shape_nested", with_shape("[[2,3]]"), "nested deeper than 3 levels"},
      {"shape_negative", with_shape("[-2,-3]"), "found '-2'"},
      {"shape_fraction", with_shape("[2.5,3]"), "found '2.5'"},
      {"shape_exponent", with_shape("[6e0]"), "found '6.0'"},
      {"shape_boolean", with_shape("[true,6]"), "found 'true'"},
      {"shape_null", with_shape("[null]"), "found 'null'"},
      {"shape_words", with_shape(R"(["6"])"), "expected whole numbers"},
      {"shape_over_int64", with_shape("[9223372036854775808]"), "found '9223372036854775808'"},
      {"shape_over_uint64", with_shape("[18446744073709551622]"), "expected whole numbers"},
      {"shape_times_bytes_overflows", with_shape("[9223372036854775807]"), "overflows 64 bits"},
      {"shape_wraps_to_right_size", with_shape("[9223372036854775814]"), "expected whole numbers"},
      {"shape_product_wraps", with_shape("[4611686018427387904,4,6]"), "overflows 64 bits"},
      {"shape_product_wraps_before_a_zero", entry(R"("F16")", "[4611686018427387904,4,0]", "[0,0]", 0),
       "overflows 64 bits"},
      {"shape_product_wraps_after_a_zero", entry(R"("F16")", "[0,4611686018427387904,4]", "[0,0]", 0),
       "overflows 64 bits"},
      {"shape_of_rank_70", with_shape("[2" + repeat(",2", 69) + "]"), "overflows 64 bits"},
      {"shape_of_rank_100000", with_shape("[1" + repeat(",1", 99'999) + "]"), "more than 256 numbers"},
      {"offsets_one", with_offsets("[0]"), "data_offsets: expected two numbers"},
      {"offsets_three", with_offsets("[0,6,12]"), "data_offsets: expected two numbers"},
      {"offsets_object", with_offsets("{}"), "data_offsets: expected two numbers"},
      {"offsets_null", with_offsets("null"), "data_offsets: expected two numbers"},
      {"offsets_negative", with_offsets("[-12,0]"), "found '-12'"},
      {"offsets_fraction", with_offsets("[0.0,12]"), "found '0.0'"},
      {"offsets_words", with_offsets(R"(["0","12"])"), "expected whole numbers"},
      {"offsets_over_uint64", with_offsets("[0,18446744073709551628]"), "expected whole numbers"},
      {"offsets_reversed", with_offsets("[12,0]"), "[12, 0] are reversed"},
      {"offsets_too_short", with_offsets("[0,11]"), "takes 12 bytes, but data_offsets [0, 11] span 11"},
      {"offsets_too_long", with_offsets("[0,13]"), "takes 12 bytes, but data_offsets [0, 13] span 13"},
      {"offsets_for_another_dtype", entry(R"("F32")", "[2,3]", "[0,12]"), "F32 [2, 3] takes 24 bytes"},
      {"offsets_beyond_file", with_offsets("[12,24]"), "ends at byte 24 after the header"},
      {"offsets_near_2_64", with_offsets("[18446744073709551603,18446744073709551615]"),
       "truncated or damaged"},
      {"hole_at_the_start", entry(R"("F16")", "[2,3]", "[8,20]", 20), "there is a hole before it"},
      {"hole_between", two("[0,12]", "[16,28]", 28), "tensor 'b': its data starts"},
      {"overlap_by_a_byte", two("[0,12]", "[11,23]", 23), "it overlaps another tensor"},
      {"same_bytes_twice", two("[0,12]", "[0,12]", 12), "it overlaps another tensor"},
      {"hole_at_the_end", two("[0,12]", "[12,24]", 32), "8 bytes follow the last tensor"},
  };
}

class HostileShardTest : public testing::TestWithParam<HostileShard> {};

TEST_P(HostileShardTest, IsRefusedInOneLineThatNamesTheFile) {
  const TemporaryFolder folder;
  put(folder / "config.json", "{}");
  put(folder / "model.safetensors", GetParam().file);
  check_message(open_error(folder.path()), "model.safetensors", GetParam().wanted);
}

const auto kRowName = [](const auto& info) { return std::string(info.param.name); };
INSTANTIATE_TEST_SUITE_P(Framing, HostileShardTest, testing::ValuesIn(framing_rows()), kRowName);
INSTANTIATE_TEST_SUITE_P(Json, HostileShardTest, testing::ValuesIn(json_rows()), kRowName);
INSTANTIATE_TEST_SUITE_P(Entry, HostileShardTest, testing::ValuesIn(entry_rows()), kRowName);

// Near misses of the rows above that are well-formed: the table would mean little if everything were refused.
class UnusualShardTest : public testing::TestWithParam<HostileShard> {};

TEST_P(UnusualShardTest, IsAccepted) {
  const TemporaryFolder folder;
  put(folder / "config.json", "{}");
  put(folder / "model.safetensors", GetParam().file);
  EXPECT_NO_THROW(Checkpoint::open(folder.path()));
}

INSTANTIATE_TEST_SUITE_P(
    Shards, UnusualShardTest,
    testing::ValuesIn(std::vector<HostileShard>{
        {"plain", shard_file(kGood, 12), ""},
        {"no_tensors", header("{}"), ""},
        {"padded_with_spaces", shard_file(kGood + "      ", 12), ""},
        {"scalar", entry(R"("F32")", "[]", "[0,4]", 4), ""},
        {"empty_tensor", entry(R"("F32")", "[0,5]", "[0,0]", 0), ""},
        {"empty_tensor_between",
         shard_file(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"e":{"dtype":"U8","shape":[0],)"
                    R"("data_offsets":[3,3]},"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})",
                    5),
         ""},
        {"headers_order_is_not_the_datas", two("[12,24]", "[0,12]", 24), ""},
        {"fp8_and_f64", entry(R"("F8_E4M3")", "[12]", "[0,12]"), ""},
        {"rank_60", with_shape("[6" + repeat(",1", 59) + "]"), ""},
        {"metadata_longer_than_an_entry_may_be",
         shard_file(R"({"__metadata__":{)" +
                        [] {
                          std::string all = R"("k":"v")";
                          for (int i = 0; i < 1000; ++i) all += ",\"k" + std::to_string(i) + "\":\"v\"";
                          return all;
                        }() +
                        "}," + kGoodEntry + "}",
                    12),
         ""},
        {"name_in_another_script",
         shard_file(R"({"слой.重み":{"dtype":"F16","shape":[6],"data_offsets":[0,12]}})", 12), ""},
    }),
    kRowName);

}  // namespace
}  // namespace lathe::test
