// Languages of texts: alone, side by side, in the middle of a long one.
#include "lib/text/languages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lathe::text {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Key;
using ::testing::UnorderedElementsAre;

constexpr const char* kEnglish =
    "The cat sits on the table and looks out of the window. The children play in the garden while their "
    "mother "
    "cooks the dinner. We go to the sea tomorrow if the weather allows it, but I am afraid of rain. ";
constexpr const char* kFrench =
    "Le chat est sur la table et il regarde par la fen\u00eatre. Les enfants jouent dans le jardin pendant "
    "que "
    "leur m\u00e8re pr\u00e9pare le d\u00eener. Nous irons \u00e0 la mer demain si le temps le permet. ";

std::string times(std::string_view text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

LanguageCounts count(std::string_view text) {
  LanguageCounts counts;
  add_languages(text, counts);
  return counts;
}

TEST(Languages, AreToldApartInOneScript) {
  EXPECT_THAT(count(kEnglish), ElementsAre(Key("English")));
  EXPECT_THAT(count(kFrench), ElementsAre(Key("French")));
  const LanguageCounts both = count(times(kEnglish, 5) + times(kFrench, 5));
  ASSERT_THAT(both, UnorderedElementsAre(Key("English"), Key("French")));
  EXPECT_NEAR(static_cast<double>(both.at("English")) / static_cast<double>(both.at("French")), 1, 0.3);
}

TEST(Languages, ShortTextsAndNumbersAreUnknownOrNothing) {
  EXPECT_THAT(count(""), IsEmpty());
  EXPECT_THAT(count("12 345 678"), IsEmpty());
  EXPECT_FALSE(count("xq zzv").contains("English"));
}

TEST(Languages, LongTextsAreLookedAtInParts) {
  const std::string text = times(kEnglish, 500) + times(kFrench, 500);  // not the start alone
  const LanguageCounts counts = count(text);
  EXPECT_THAT(counts, UnorderedElementsAre(Key("English"), Key("French")));
  EXPECT_LE(counts.at("English") + counts.at("French"), 17 << 10) << "16 parts of 1 KiB";
  std::string letters;  // of three bytes, cut nowhere within
  for (int i = 0; i < 20'000; ++i) letters += "\u6f22\u8a9e\u4eba";
  EXPECT_NO_THROW(count(letters));
}

}  // namespace
}  // namespace lathe::text
