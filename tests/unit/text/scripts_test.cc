// Letters by script, and texts that differ in form alone.
#include "lib/text/scripts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/unit/text/tokenizer_json.h"

namespace lathe::text {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

ScriptCounts count(std::string_view text) {
  ScriptCounts counts;
  add_scripts(text, counts);
  return counts;
}

TEST(Scripts, CountsLettersAlone) {
  EXPECT_THAT(count("na\u00efve, 12 \u0416\u0437! \u6f22\u5b57\u3068\u30ab\u30ca \U0001f642"),
              ElementsAre(Pair("Cyrillic", 2), Pair("Han", 2), Pair("Hiragana", 1), Pair("Katakana", 2),
                          Pair("Latin", 5)));
  EXPECT_THAT(count("\u1401\u16a0"), ElementsAre(Pair("Other", 2))) << "Canadian syllabics, runes";
  EXPECT_THAT(count("12 + 3 = \u00b5!"), IsEmpty()) << "the micro sign's script is Common";
  EXPECT_THAT(count(""), IsEmpty());
}

TEST(Scripts, LongRunsAreCountedWhole) {
  EXPECT_THAT(count(std::string(3'000'000, 'x')), ElementsAre(Pair("Latin", 3'000'000)));
}

TEST(Scripts, AddsUp) {
  ScriptCounts counts = count("abc");
  add_scripts("d\u03b1", counts);
  EXPECT_THAT(counts, ElementsAre(Pair("Greek", 1), Pair("Latin", 4)));
  EXPECT_EQ(largest_share(counts).name, "Latin");
  EXPECT_DOUBLE_EQ(largest_share(counts).share, 0.8);
  EXPECT_DOUBLE_EQ(share_of(counts, "Greek"), 0.2);
  EXPECT_DOUBLE_EQ(share_of(counts, "Thai"), 0);
  EXPECT_DOUBLE_EQ(largest_share({}).share, 0);
}

TEST(Fold, ForgetsFormButNotContent) {
  EXPECT_EQ(fold_for_comparison("  Hello,\tWORLD_2!\n"), "helloworld2");
  EXPECT_EQ(fold_for_comparison("\ufb01ne \u00c9"), fold_for_comparison("FINE e\u0301"));
  EXPECT_NE(fold_for_comparison("now here"), fold_for_comparison("no there"));
  EXPECT_EQ(fold_for_comparison("?!"), "");
}

TEST(TextsOf, IdsAreWhatTheyStandForInAText) {
  const auto spaced =
      test::open_document(test::bpe_document({"a", "\u2581b", "\u2581\u2581", "<0x0A>", "<0x0G>"}, {}));
  EXPECT_THAT(spaced->texts_of(std::vector<int64_t>{1, 0, 2, 3, 4, 99, -1}),
              testing::ElementsAre(" b", "a", "  ", "\n", "<0x0G>", "", ""));
  const auto bytes = test::open_document(test::bpe_document({"\u0120", "\u010a", "\u00d0", "\u00b6"}, {}));
  EXPECT_THAT(bytes->texts_of(std::vector<int64_t>{0, 1, 2, 3, 0}),
              testing::ElementsAre(" ", "\n", "\xd0", "\xb6", " "));
}

// The ids of a text, put together again.
TEST(TextsOf, OfTheEmbeddedModelMakeTheTextAgain) {
  const auto tokenizer = open_tokenizer(std::filesystem::path(LATHE_SOURCE_DIR) / "data/models/lathe-tiny");
  const std::string text = "One text, \u00e9t\u00e9 \u0436 and\n  1,234 more.";
  std::string again;
  for (const std::string& piece : tokenizer->texts_of(tokenizer->encode(text, false))) again += piece;
  EXPECT_EQ(again, text);
}

// The pieces that the vocabulary's letters are counted from.
TEST(Pieces, AreTextEvenOfAByteLevelVocabulary) {
  const auto plain = test::open_document(test::bpe_document({"a", "\u00e9", "\u2581b"}, {}));
  EXPECT_THAT(plain->pieces(), UnorderedElementsAre("a", "\u00e9", "\u2581b"));
  // U+0120 is GPT-2's space, U+010A its line break; "\u00d0\u00b6" the two bytes of U+0436, "\u00d0" half of
  // one.
  const auto bytes =
      test::open_document(test::bpe_document({"\u0120", "\u010a", "\u0120a", "\u00d0\u00b6", "\u00d0"}, {}));
  EXPECT_THAT(bytes->pieces(), UnorderedElementsAre(" ", "\n", " a", "\u0436"));
}

}  // namespace
}  // namespace lathe::text
