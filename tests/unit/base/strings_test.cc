#include "lib/base/strings.h"

#include <gtest/gtest.h>

namespace lathe {
namespace {

using namespace std::string_literals;

TEST(Strings, NearestNameFindsLikelySlipsOnly) {
  const std::vector<std::string> names = {"group_size", "symmetric", "bits", "b"};
  EXPECT_EQ(nearest_name("groupsize", names), "group_size");
  EXPECT_EQ(nearest_name("grup_sise", names), "group_size");
  EXPECT_EQ(nearest_name("simmetrik", names), "symmetric");
  EXPECT_EQ(nearest_name("bit", names), "bits");
  EXPECT_EQ(nearest_name("bits", names), "bits");
  EXPECT_EQ(nearest_name("a", names), "b");                // one edit is always allowed
  EXPECT_EQ(nearest_name("colour", names), std::nullopt);  // nothing near
  EXPECT_EQ(nearest_name("group", names), std::nullopt);   // 5 of 10: more than a third
  EXPECT_EQ(nearest_name("x", {}), std::nullopt);
  EXPECT_EQ(nearest_name("", {"abc"}), std::nullopt);
  EXPECT_EQ(nearest_name("abx", {"abcx", "aby"}), "abcx");            // the first of equals
  EXPECT_EQ(nearest_name("abcdef", {"abcdxy", "abcdex"}), "abcdex");  // the nearest, not the first
  EXPECT_EQ(nearest_name("modle", {"model"}), "model");               // a swap is one edit
  EXPECT_EQ(nearest_name("gird", {"grid"}), "grid");
  EXPECT_EQ(did_you_mean("bitts", names), "; did you mean 'bits'?");
  EXPECT_EQ(did_you_mean("colour", names), "");
}

TEST(Strings, HumanBytes) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1024), "1.0 KiB");
  EXPECT_EQ(human_bytes(1536), "1.5 KiB");
  EXPECT_EQ(human_bytes((1 << 20) - 1), "1.0 MiB");  // never "1024.0 KiB"
  EXPECT_EQ(human_bytes(uint64_t{5} << 30), "5.0 GiB");
  EXPECT_EQ(human_bytes(uint64_t{3} << 40), "3.0 TiB");
  EXPECT_EQ(human_bytes(~uint64_t{0}), "16384.0 PiB");
}

TEST(Strings, ParseBytes) {
  const std::vector<std::pair<std::string, uint64_t>> good = {{"1024", 1024},
                                                              {"0", 0},
                                                              {"7B", 7},
                                                              {"5GB", 5'000'000'000},
                                                              {"5gb", 5'000'000'000},
                                                              {"3.8GiB", 4'080'218'931},
                                                              {"200 MB", 200'000'000},
                                                              {"1KiB", 1024},
                                                              {"2KB", 2000},
                                                              {".5 MiB", 524'288},
                                                              {"2TiB", uint64_t{2} << 40},
                                                              {"1.5TB", 1'500'000'000'000},
                                                              {"9007199254740993", 9'007'199'254'740'993}};
  for (const auto& [text, bytes] : good) EXPECT_EQ(parse_bytes(text), bytes) << text;
  for (const std::string& bad : {""s,
                                 "GB"s,
                                 "-1"s,
                                 "+1"s,
                                 " 5GB"s,
                                 "5GB "s,
                                 "5 G B"s,
                                 "5G"s,
                                 "5XB"s,
                                 "0x10"s,
                                 "1e3"s,
                                 "inf"s,
                                 "nan"s,
                                 "."s,
                                 "1.2.3"s,
                                 "5,5GB"s,
                                 "5\0GB"s,
                                 "99999999999999999999"s,
                                 "20000000TiB"s,
                                 "20000000.5TiB"s,
                                 "5GB5"s}) {
    EXPECT_EQ(parse_bytes(bad), std::nullopt) << bad;
  }
}

TEST(Strings, JoinWords) {
  EXPECT_EQ(join_words({}), "");
  EXPECT_EQ(join_words({"a"}), "a");
  EXPECT_EQ(join_words({"a", "b"}), "a and b");
  EXPECT_EQ(join_words({"a", "b", "c"}), "a, b and c");
}

struct Utf8Row {
  const char* name;
  std::string text;
  std::optional<size_t> offset;  // of the first ill-formed byte
};

class Utf8Test : public testing::TestWithParam<Utf8Row> {};

TEST_P(Utf8Test, OffsetOfTheFirstIllFormedByte) {
  EXPECT_EQ(invalid_utf8_offset(GetParam().text), GetParam().offset);
}

// After table 3-7 of the Unicode standard: each boundary from both sides.
INSTANTIATE_TEST_SUITE_P(Table, Utf8Test,
                         testing::ValuesIn(std::vector<Utf8Row>{
                             {"empty", "", {}},
                             {"ascii", "plain\n\t\x7F", {}},
                             {"nul", "a\0b"s, {}},
                             {"first_of_two", "\xC2\x80", {}},
                             {"last_of_two", "\xDF\xBF", {}},
                             {"first_of_three", "\xE0\xA0\x80", {}},
                             {"before_surrogates", "\xED\x9F\xBF", {}},
                             {"after_surrogates", "\xEE\x80\x80", {}},
                             {"last_of_three", "\xEF\xBF\xBF", {}},
                             {"first_of_four", "\xF0\x90\x80\x80", {}},
                             {"last_code_point", "\xF4\x8F\xBF\xBF", {}},
                             {"emoji_with_joiner", "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x92\xBB", {}},
                             {"lone_continuation", "ab\x80", 2},
                             {"last_continuation", "\xBF", 0},
                             {"overlong_nul", "a\xC0\x80", 1},
                             {"overlong_slash", "\xC0\xAF", 0},
                             {"overlong_c1", "\xC1\xBF", 0},
                             {"overlong_three", "x\xE0\x9F\xBF", 1},
                             {"overlong_four", "\xF0\x8F\xBF\xBF", 0},
                             {"first_surrogate", "ab\xED\xA0\x80", 2},
                             {"last_surrogate", "\xED\xBF\xBF", 0},
                             {"surrogate_pair", "\xED\xA0\xBD\xED\xB8\x80", 0},
                             {"above_10ffff", "\xF4\x90\x80\x80", 0},
                             {"lead_f5", "\xF5\x80\x80\x80", 0},
                             {"lead_fe", "\xFE", 0},
                             {"lead_ff", "ok\xFF", 2},
                             {"five_bytes", "\xF8\x88\x80\x80\x80", 0},
                             {"truncated_two", "a\xC3", 1},
                             {"truncated_three_after_one", "\xE2", 0},
                             {"truncated_three_after_two", "ab\xE2\x82", 2},
                             {"truncated_four_after_three", "\xF0\x9F\x98", 0},
                             {"lead_then_ascii", "\xC3(", 0},
                             {"third_byte_ascii", "\xE2\x82(", 0},
                             {"fourth_byte_lead", "\xF0\x9F\x98\xC3", 0},
                             {"second_byte_too_high", "\xC2\xC0", 0},
                             {"after_good_text", "\xE6\x97\xA5\xE6\x9C\xAC\x80", 6},
                         }),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace lathe
