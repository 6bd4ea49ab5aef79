// Each warning fires where it should, and not a step before.
#include "calib/data/data_warnings.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include "tests/unit/calib/data/data_files.h"

namespace lathe {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class DataWarnings : public test::DataFiles {
 protected:
  CalibrationSet documents_set(const std::vector<std::string>& texts) const {
    std::string lines;
    for (const std::string& text : texts) lines += nlohmann::json({{"text", text}}).dump() + "\n";
    return build_calibration_set(
        {file("a.jsonl", lines)},
        {.samples = static_cast<int64_t>(texts.size()), .seq_len = 1, .packing = Packing::document},
        encoder_);
  }
  static std::vector<std::string> warnings(const CalibrationSet& set,
                                           const text::ScriptCounts& vocabulary = {}) {
    return data_warnings(set, {.widest_input = 0, .vocabulary = vocabulary});
  }
  static std::string words(int count, const std::string& word) {
    std::string text;
    for (int i = 0; i < count; ++i) text += word + std::to_string(i) + " ";
    return text;
  }
};

TEST_F(DataWarnings, FewTokensForTheWidestInput) {
  CalibrationSet set = documents_set({words(30, "word")});
  set.ids = at::zeros({10, 16}, at::kLong);
  // 160 tokens, of which an expert gets a quarter: 40, enough for 2 columns.
  EXPECT_THAT(data_warnings(set, {.widest_input = 10, .widest_expert_input = 2, .expert_share = 0.25}),
              IsEmpty());
  EXPECT_THAT(
      data_warnings(set, {.widest_input = 10, .widest_expert_input = 3, .expert_share = 0.25}),
      ElementsAre(AllOf(HasSubstr("for an expert: 40 of 160"), HasSubstr("up to 3 wide; 192 in all"))));
  EXPECT_THAT(data_warnings(set, {.widest_input = 10}), IsEmpty());
  EXPECT_THAT(data_warnings(set, {.widest_input = 11}),
              ElementsAre(AllOf(HasSubstr("few calibration tokens: 160 for inputs up to 11 wide"),
                                HasSubstr("176"))));
  set.lengths = {16, 16, 16, 16, 16, 16, 16, 16, 16, 15};
  EXPECT_THAT(data_warnings(set, {.widest_input = 10}), ElementsAre(HasSubstr("few calibration tokens: 159")))
      << "padding is no token";
}

TEST_F(DataWarnings, OneScriptWhereTheVocabularyHasMore) {
  const CalibrationSet latin = documents_set({words(30, "word")});
  const CalibrationSet mixed =
      documents_set({words(30, "word") + words(30, "\u0441\u043b\u043e\u0432\u043e")});
  const text::ScriptCounts several = {{"Latin", 90}, {"Cyrillic", 6}, {"Han", 4}};
  const text::ScriptCounts english = {{"Latin", 96}, {"Greek", 4}};
  EXPECT_THAT(warnings(latin, several), ElementsAre(AllOf(HasSubstr("100.0 % of its letters are Latin"),
                                                          HasSubstr("10 % of the letters"))));
  EXPECT_THAT(warnings(latin, english), IsEmpty());
  EXPECT_THAT(warnings(mixed, several), IsEmpty());
  EXPECT_THAT(warnings(documents_set({words(70, "\u6f22")}), english),
              ElementsAre(HasSubstr("of one language: 100 % of it is Traditional Chinese")));
}

TEST_F(DataWarnings, OneLanguageWhereTheVocabularyHasMoreScripts) {
  const std::string english =
      "The children play in the garden while their mother cooks the dinner, and we go to the sea tomorrow. ";
  const std::string french =
      "Les enfants jouent dans le jardin pendant que leur m\u00e8re pr\u00e9pare le d\u00eener, et nous "
      "irons \u00e0 la mer demain. ";
  std::string most;
  for (int i = 0; i < 20; ++i) most += english;
  for (int i = 0; i < 24; ++i) most += "\u6f22";
  const CalibrationSet one = documents_set({most});  // of two scripts
  const text::ScriptCounts several = {{"Latin", 90}, {"Han", 10}}, latin = {{"Latin", 100}};
  EXPECT_THAT(
      warnings(one, several),
      ElementsAre(AllOf(HasSubstr("calibration text of one language: "), HasSubstr("% of it is English"),
                        HasSubstr("10 % of the letters of the model's vocabulary are of other scripts"))));
  EXPECT_THAT(warnings(one, latin), IsEmpty());
  std::string both = most;
  for (int i = 0; i < 10; ++i) both += french + "\u6f22\u6f22";
  EXPECT_THAT(warnings(documents_set({both}), several), IsEmpty());
}

/// One id for as many bytes as are asked for.
class Stretches : public test::ByteTokenizer {
 public:
  explicit Stretches(size_t bytes) : bytes_(bytes) {}
  std::vector<int64_t> encode(std::string_view text, bool) const override {
    return std::vector<int64_t>((text.size() + bytes_ - 1) / bytes_, 7);
  }

 private:
  size_t bytes_;
};

TEST_F(DataWarnings, TextThatTheTokenizerHardlyKnows) {
  const CalibrationSet single = documents_set({words(30, "word"), "[1, 2]"});
  EXPECT_THAT(data_warnings(single, {.vocabulary_size = 49152}),
              ElementsAre(HasSubstr("the tokenizer hardly knows: 1.00 bytes a token")));
  EXPECT_THAT(data_warnings(single, {.vocabulary_size = 16383}), IsEmpty()) << "small: of short pieces";
  const Stretches two(2);
  encoder_.tokenizer = &two;
  EXPECT_THAT(data_warnings(documents_set({words(30, "word")}), {.vocabulary_size = 49152}), IsEmpty());
  encoder_.tokenizer = &tokenizer_;
  const CalibrationSet ids =
      build_calibration_set({file("i.jsonl", "[1, 2, 1]\n")}, {.samples = 1, .seq_len = 3}, encoder_);
  EXPECT_EQ(ids.census.bytes_per_token(), 0);
  EXPECT_THAT(data_warnings(ids, {.vocabulary_size = 49152}), IsEmpty()) << "control tokens are no text";
}

TEST_F(DataWarnings, DocumentsAllVeryShort) {
  const std::string limit(64, 'x'), longer(65, 'y');
  EXPECT_THAT(
      warnings(documents_set({"a", limit})),
      ElementsAre(HasSubstr("all calibration documents are very short: the longest of 2 has 64 tokens")));
  EXPECT_THAT(warnings(documents_set({"a", longer})), IsEmpty());
  std::vector<std::string> nearly;
  for (int i = 0; i < 18; ++i) nearly.push_back(std::to_string(i));
  nearly.push_back(longer);
  EXPECT_THAT(warnings(documents_set(nearly)), IsEmpty()) << "94.7 %";
  nearly.push_back(limit);
  EXPECT_THAT(warnings(documents_set(nearly)),
              ElementsAre(HasSubstr(
                  "nearly all calibration documents are very short: 19 of 20 have 64 tokens or fewer")));
  EXPECT_THAT(warnings(documents_set({"a"})), IsEmpty()) << "one text is one document, whatever it holds";
}

TEST_F(DataWarnings, DocumentsThatAreNotTakenDoNotCount) {
  const std::string lines =
      "{\"text\": \"ab\"}\n{\"text\": \"cd\"}\n{\"text\": \"" + std::string(100, 'x') + "\"}\n";
  const DataSource source = file("a.jsonl", lines);
  const auto very_short = HasSubstr("the longest of 2 has 2 tokens");
  for (const Packing packing : {Packing::pack, Packing::document}) {
    EXPECT_THAT(
        warnings(build_calibration_set({source}, {.samples = 2, .seq_len = 2, .packing = packing}, encoder_)),
        ElementsAre(very_short));
    EXPECT_THAT(
        warnings(build_calibration_set({source}, {.samples = 3, .seq_len = 2, .packing = packing}, encoder_)),
        IsEmpty());
  }
}

TEST_F(DataWarnings, DrawnSamplesAreJudgedByTheirOwnDocuments) {
  // A seed draws one sample: of the short document, or of one of the others.
  const std::string latin = "{\"text\": \"abcdefgh\"}\n",
                    han = "{\"text\": \"" + std::string(300, 'x') + "\u6f22\"}\n";
  for (const Packing packing : {Packing::pack, Packing::document}) {
    for (const uint64_t seed : {1, 2, 3, 4, 5, 6}) {
      const CalibrationSet set =
          build_calibration_set({file("a.jsonl", latin + han + han + han)},
                                {.samples = 1, .seq_len = 8, .seed = seed, .packing = packing}, encoder_);
      EXPECT_LE(set.census.documents(), packing == Packing::pack ? 2 : 1) << "a sample may hold two ends";
      EXPECT_EQ(set.census.longest(), set.ids[0][0].item<int64_t>() == 'a' ? 8 : 303);
      EXPECT_EQ(set.census.scripts().contains("Han"), set.ids[0][0].item<int64_t>() != 'a');
    }
  }
}

TEST_F(DataWarnings, IdsAreLookedAtAsTheTextThatTheyStandFor) {
  const auto ids_of = [](const std::string& text) {
    nlohmann::json ids = nlohmann::json::array({1});  // a control token
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids.dump() + "\n";
  };
  const text::ScriptCounts several = {{"Latin", 90}, {"Cyrillic", 6}, {"Han", 4}};
  const std::string latin = words(30, "word"), others = words(30, "\u6f22\u0441");
  const auto warned = [&](const std::string& lines, int64_t samples, uint64_t seed = 0) {
    return data_warnings(
        build_calibration_set(
            {file("a.jsonl", lines)},
            {.samples = samples, .seq_len = 1000, .seed = seed, .packing = Packing::document}, encoder_),
        {.vocabulary = several, .vocabulary_size = 49152});
  };
  EXPECT_THAT(warned(ids_of(latin), 1), ElementsAre(HasSubstr("100.0 % of its letters are Latin"),
                                                    HasSubstr("hardly knows: 1.00 bytes a token")));
  EXPECT_THAT(warned(ids_of(latin) + ids_of(others), 2), ElementsAre(HasSubstr("hardly knows")));
  EXPECT_THAT(warned(ids_of(latin) + ids_of(others), 1),
              ElementsAre(HasSubstr("are Latin"), HasSubstr("hardly")))
      << "the second is in no sample";
  EXPECT_THAT(warned(ids_of("\xff\xe6\xbc" + latin + "\xe6"), 1),
              ElementsAre(HasSubstr("100.0 % of its letters are Latin"), HasSubstr("hardly knows")))
      << "bytes that are no character";
}

TEST_F(DataWarnings, DocumentsThatRepeatOthers) {
  const std::string text = words(20, "word");
  std::string shouted = "  ";
  for (const char c : text) shouted += static_cast<char>(std::toupper(c));
  EXPECT_THAT(warnings(documents_set({text, shouted + "!", text, "else"})),
              ElementsAre(HasSubstr("2 of 4 equal an earlier one")));
  EXPECT_THAT(warnings(documents_set({text, text, "else"})), IsEmpty()) << "one may be chance";
  std::vector<std::string> many;
  for (int i = 0; i < 250; ++i) many.push_back(text + std::to_string(i));
  many[249] = many[248] = many[0];
  EXPECT_THAT(warnings(documents_set(many)), IsEmpty()) << "0.8 %";
  many[247] = many[0];
  EXPECT_THAT(warnings(documents_set(many)), ElementsAre(HasSubstr("3 of 250")));
}

TEST_F(DataWarnings, LongTextsAreComparedByTheirStartAndLength) {
  const std::string start(DocumentLooks::kLookedAt, 'x');
  const CalibrationSet set = documents_set({start + "one", start + "two", start + "three", start});
  EXPECT_EQ(set.census.repeated(), 1);
}

TEST_F(DataWarnings, SourcesThatGiveNothing) {
  const std::string a = words(300, "word"), b = words(300, "other"), c = words(300, "third");
  std::vector<DataSource> sources = {file("a.txt", a), file("b.txt", b), file("c.txt", c)};
  const auto build = [&](int64_t samples) {
    return build_calibration_set(sources, {.samples = samples, .seq_len = 1000}, encoder_);
  };
  EXPECT_THAT(warnings(build(1)),
              ElementsAre(AllOf(HasSubstr("unused calibration data: none of the 1 samples is taken from "),
                                HasSubstr("b.txt and 1 more; raise calibration.samples"))));
  const auto all = static_cast<int64_t>((a.size() + b.size() + c.size()) / 1000);
  EXPECT_THAT(warnings(build(all)), IsEmpty());
  sources[0].weight = sources[1].weight = 1000;  // c: weight 1, less than a sample
  EXPECT_THAT(warnings(build(2)),
              ElementsAre(AllOf(HasSubstr("none of the 2 samples"), HasSubstr("c.txt;"))));
}

TEST_F(DataWarnings, RowsOfIdsThatAreCutAnew) {
  const DataSource rows = file("a.jsonl", "[1, 2, 3, 4]\n[5, 6, 7, 8]\n");
  const auto warned = [&](const std::vector<DataSource>& sources, int64_t length, Packing packing) {
    std::vector<std::string> found;
    for (std::string& line : warnings(build_calibration_set(
             sources, {.samples = 1, .seq_len = length, .seed = 0, .packing = packing}, encoder_))) {
      if (line.starts_with("token ids cut anew")) found.push_back(std::move(line));
    }
    return found;
  };
  EXPECT_THAT(warned({rows}, 4, Packing::pack), IsEmpty());
  EXPECT_THAT(warned({rows}, 2, Packing::document), IsEmpty()) << "counted as truncated";
  const auto says =
      AllOf(HasSubstr("a.jsonl holds rows of 4 ids, which are joined and cut into samples of 8"),
            HasSubstr("set calibration.seq_len to 4"));
  EXPECT_THAT(warned({rows}, 8, Packing::pack), ElementsAre(says));
  EXPECT_THAT(warned({file("b.jsonl", "[1, 2, 3]\n[5, 6, 7, 8]\n")}, 2, Packing::pack), IsEmpty())
      << "documents, not samples";
  EXPECT_THAT(warned({file("c.jsonl", "[1, 2, 3]\n")}, 2, Packing::pack), IsEmpty()) << "one stream of ids";
  EXPECT_THAT(warned({file("d.jsonl", "{\"text\": \"abcd\"}\n{\"text\": \"efgh\"}\n")}, 2, Packing::pack),
              IsEmpty())
      << "texts are joined by design";
}

TEST_F(DataWarnings, IdsAreComparedAsIds) {
  const DataSource source = file("a.jsonl", words(0, "") + "[1, 2]\n[1, 2]\n[1, 2]\n[2, 1]\n");
  const CalibrationSet set =
      build_calibration_set({source}, {.samples = 4, .seq_len = 1, .packing = Packing::document}, encoder_);
  EXPECT_EQ(set.census.repeated(), 2);
  EXPECT_EQ(set.census.documents(), 4);
}

}  // namespace
}  // namespace lathe
