// Parquet files that pyarrow wrote (tests/golden/parquet), and what is left of them when cut.
#include <gmock/gmock.h>

#include "lib/base/file.h"
#include "tests/unit/calib/data/data_files.h"

namespace lathe {
namespace {

using test::Ids;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Parquet : public test::DataFiles {
 protected:
  static DataSource golden(const std::string& name, std::string field = "") {
    return {.path = std::filesystem::path(LATHE_SOURCE_DIR "/tests/golden/parquet") / (name + ".parquet"),
            .field = std::move(field)};
  }
};

TEST_F(Parquet, ReadsText) {
  EXPECT_THAT(texts(golden("text")), ElementsAre("abc", "", "d\u00e9"));
  EXPECT_THAT(texts(golden("row_groups")),
              ElementsAre("doc 0", "doc 1", "doc 2", "doc 3", "doc 4", "doc 5", "doc 6"))
      << "dictionaries, Zstandard, three row groups";
  EXPECT_THAT(texts(golden("large_string", "body")), ElementsAre("x", "yz"));
}

TEST_F(Parquet, NullsAreCountedWhereOthersHaveAValue) {
  EXPECT_THAT(texts(golden("null_row")), ElementsAre("a"));
  EXPECT_THAT(texts(golden("string_view")), ElementsAre("a", "longer than the twelve bytes of a view"));
  TokenStream stream;
  const StreamCounts counts = append(golden("string_view"), 0, encoder_, stream, nullptr);
  EXPECT_EQ(std::tie(counts.documents, counts.absent), std::make_tuple(3, 1));
  EXPECT_THAT(error(golden("only_nulls")),
              HasSubstr("only_nulls.parquet: row 0: field 'text': expected a string, a list of messages or a "
                        "list of token ids, found null"));
}

TEST_F(Parquet, ReadsIds) { EXPECT_THAT(documents(golden("ids")), ElementsAre(Ids{1, 2, 3}, Ids{}, Ids{4})); }

TEST_F(Parquet, AMaskBesideIdsCutsTheirPaddingOff) {
  EXPECT_THAT(documents(golden("masked")), ElementsAre(Ids{7, 8}, Ids{5, 6, 9, 4}, Ids{3}))
      << "a row without a mask is whole";
  EXPECT_THAT(documents(golden("bool_mask")), ElementsAre(Ids{7}));
  EXPECT_THAT(documents(golden("masked", "input_ids")), ElementsAre(Ids{7, 8}, Ids{5, 6, 9, 4}, Ids{3}))
      << "a field that is named has its mask, too";
  EXPECT_THAT(documents(golden("left_padded")), ElementsAre(Ids{5, 6}, Ids{8}));
  const std::pair<const char*, const char*> refused[] = {
      {"short_mask", "expected one value for each of the 2 token ids, found 1"},
      {"odd_mask", "element 1: expected 0 or 1, found 2"}};
  for (const auto& [name, reason] : refused)
    EXPECT_THAT(error(golden(name)),
                HasSubstr(fmt::format("{}.parquet: row 1: field 'attention_mask': {}", name, reason)));
}

TEST_F(Parquet, WeightsBesideIdsAreOfTokens) {
  const auto weights = [&](const DataSource& source) {
    TokenStream stream;
    append(source, 0, encoder_, stream, nullptr);
    return std::vector<float>(stream.weights.begin(), stream.weights.end());
  };
  EXPECT_THAT(weights(golden("weighted")), ElementsAre(0, 4, 0.5F, 1, 1)) << "a mask cuts them, too";
  EXPECT_THAT(weights(golden("weighted_text", "input_ids")), ElementsAre(2));
  EXPECT_THAT(error(golden("weighted_text")),
              HasSubstr("weighted_text.parquet: column 'text': expected token ids beside 'token_weights', "
                        "found text; name the field of ids with `field:`"));
}

TEST_F(Parquet, ToolsBesideAConversationReachTheTemplate) {
  text::ChatTemplates templates;
  templates.standard.emplace(
      "{{ messages[0].content }}{% if tools %}{% for t in tools %}[{{ t.name }}]{% endfor %}{% endif %}",
      "t.jinja", nlohmann::ordered_json::object());
  encoder_.templates = &templates;
  EXPECT_THAT(texts(golden("tools")), ElementsAre("Hi[a][b]", "Yo", "Ah"));
  EXPECT_THAT(texts(golden("tools_text")), ElementsAre("Hi[a][b]", "Yo", "Ah"));
  EXPECT_THAT(error(golden("bad_tools")),
              HasSubstr("bad_tools.parquet: row 0: field 'tools': expected a list, a list as JSON text, or "
                        "null"));
}

TEST_F(Parquet, ReadsConversations) {
  text::ChatTemplates templates;
  templates.standard.emplace("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}", "t.jinja",
                             nlohmann::ordered_json::object());
  encoder_.templates = &templates;
  EXPECT_THAT(texts(golden("messages")), ElementsAre("<user>Hi<assistant>Hello", "<user>"));
  EXPECT_THAT(
      error(golden("null_role")),
      HasSubstr("null_role.parquet: row 0: field 'messages': message 0: expected a text 'role', found null"));
  EXPECT_THAT(error(golden("bad_utf8_nested")), HasSubstr("row 0: invalid UTF-8"));
}

TEST_F(Parquet, NamesRowAndColumn) {
  EXPECT_THAT(error(golden("messages")),
              HasSubstr("messages.parquet: row 0: field 'messages': a list of messages"));
  EXPECT_THAT(error(golden("null_id")),
              HasSubstr("row 0: field 'input_ids': element 1: expected a token id, found null"));
  EXPECT_THAT(error(golden("bad_utf8")),
              HasSubstr("bad_utf8.parquet: row 1: column 'text': invalid UTF-8 at byte offset 2 (0xff)"));
  EXPECT_THAT(error(golden("numbers")), HasSubstr("row 0: field 'text': expected a string"));
  EXPECT_THAT(error(golden("timestamp")),
              HasSubstr("values of type timestamp[ms] can't be read as text or ids"));
}

TEST_F(Parquet, ListsTheColumnsThereAre) {
  EXPECT_THAT(error(golden("other_columns")),
              HasSubstr("other_columns.parquet: the file has no field 'text', 'messages' or 'input_ids'; its "
                        "fields are 'question' and 'answer'; name one with `field:`"));
  EXPECT_THAT(error(golden("text", "body")),
              HasSubstr("has no field 'body'; its fields are 'id' and 'text'"));
}

TEST_F(Parquet, NoRowsAreNoDocuments) { EXPECT_TRUE(documents(golden("no_rows")).empty()); }

TEST_F(Parquet, RefusesDamagedFiles) {
  const std::string whole = read_text_file(golden("row_groups").path);
  EXPECT_THAT(error(file("empty.parquet", "")), HasSubstr("empty.parquet: the file is empty"));
  EXPECT_THAT(error({.path = folder_ / "none.parquet"}), HasSubstr("none.parquet: can't be opened"));
  EXPECT_THAT(error(file("text.parquet", "just some text, long enough for a footer")),
              HasSubstr("text.parquet: not a readable Parquet file: "));
  for (const size_t size : {size_t{4}, size_t{11}, whole.size() / 2, whole.size() - 1}) {
    EXPECT_THAT(error(file("cut.parquet", whole.substr(0, size))),
                HasSubstr("cut.parquet: not a readable Parquet file: "))
        << size;
  }
}

// No byte of the file may bring the reader down: it reads, or it says what is wrong.
TEST_F(Parquet, SurvivesEveryFlippedByte) {
  const std::string whole = read_text_file(golden("text").path);
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string changed = whole;
    changed[i] = static_cast<char>(changed[i] ^ 0x55);
    const std::string message = error(file("flipped.parquet", changed));
    EXPECT_TRUE(message == "no error" || message.find("flipped.parquet") != std::string::npos)
        << i << message;
  }
}

}  // namespace
}  // namespace lathe
