// .txt and .jsonl as documents: text, conversations and ids; errors word by word.
#include "calib/data/documents.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "tests/unit/calib/data/data_files.h"

namespace lathe {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Documents = test::DataFiles;

TEST_F(Documents, ATextFileIsOne) { EXPECT_THAT(texts(file("a.TXT", "abc\n\nd")), ElementsAre("abc\n\nd")); }

TEST_F(Documents, ReadsTheChosenFieldOfEachLine) {
  const DataSource source = file(
      "a.jsonl", "{\"text\": \"no\", \"body\": \"x\\u00e9\"}\r\n\n  \n{\"body\": \"\"}\n{\"body\": \"yz\"}",
      "body");
  EXPECT_THAT(texts(source), ElementsAre("x\u00e9", "", "yz"));
}

TEST_F(Documents, FindsTheFieldWhereNoneIsNamed) {
  EXPECT_THAT(
      documents(file("a.jsonl", "{\"input_ids\": [9], \"text\": \"a\"}\n{\"input_ids\": [7, 8]}\n[5, 6]\n")),
      ElementsAre(test::Ids{'a'}, test::Ids{7, 8}, test::Ids{5, 6}));
  EXPECT_THAT(
      error(file("b.jsonl", "{\"body\": \"a\"}")),
      HasSubstr("b.jsonl:1: the object has no field 'text', 'messages' or 'input_ids'; its fields are "
                "'body'; name one with `field:`"));
}

TEST_F(Documents, AMaskBesideIdsCutsTheirPaddingOff) {
  EXPECT_THAT(documents(file("a.jsonl",
                             "{\"input_ids\": [7, 8, 0, 0], \"attention_mask\": [1, 1, 0, 0]}\n"
                             "{\"input_ids\": [5, 6], \"attention_mask\": [true, true]}\n"
                             "{\"input_ids\": [0, 4, 9, 0], \"attention_mask\": [0, 1, 1, 0]}\n"
                             "{\"input_ids\": [3], \"attention_mask\": null}\n")),
              ElementsAre(test::Ids{7, 8}, test::Ids{5, 6}, test::Ids{4, 9}, test::Ids{3}));
  const std::pair<const char*, const char*> refused[] = {
      {"[1, 0, 1]", "element 2: expected ones in one piece"},
      {"[1]", "expected one value for each of the 3 token ids, found 1"},
      {"[1, 2, 1]", "element 1: expected 0 or 1, found 2"},
      {"1", "expected a list of 0 and 1"}};
  for (const auto& [mask, reason] : refused) {
    EXPECT_THAT(
        error(file("b.jsonl", fmt::format(R"({{"input_ids": [7, 8, 9], "attention_mask": {}}})", mask))),
        AllOf(HasSubstr("b.jsonl:1"), HasSubstr("attention_mask"), HasSubstr(reason)));
  }
}

TEST_F(Documents, WeightsBesideIdsAreOfTokens) {
  TokenStream stream;
  append(file("a.jsonl",
              "{\"input_ids\": [7, 8], \"token_weights\": [2, 0.5]}\n"
              "{\"input_ids\": [0, 5, 6], \"attention_mask\": [0, 1, 1], \"token_weights\": [9, 0, 4]}\n"
              "{\"input_ids\": [3], \"token_weights\": null}\n[4]\n"),
         0, encoder_, stream, nullptr);
  EXPECT_THAT(stream.ids, ElementsAre(7, 8, 5, 6, 3, 4));
  EXPECT_THAT(stream.weights, ElementsAre(2, 0.5F, 0, 4, 1, 1)) << "padding's are cut off with it";
  const std::pair<const char*, const char*> refused[] = {
      {"[1, 0]", "expected one value for each of the 3 token ids, found 2"},
      {"[1, true, 1]", "element 1: expected a number, found boolean"},
      {"[1, -1, 1]", "element 1: expected 1e-6 to 1e6, or 0 for tokens that should not count, found -1"},
      {"[1, 1, 1e300]", "element 2: expected 1e-6 to 1e6, or 0 for tokens that should not count, found inf"},
      {"2", "expected a list of numbers, found number"}};
  for (const auto& [weights, reason] : refused) {
    EXPECT_THAT(
        error(file("b.jsonl", fmt::format(R"({{"input_ids": [7, 8, 9], "token_weights": {}}})", weights))),
        HasSubstr(fmt::format("b.jsonl:1: field 'token_weights': {}", reason)));
  }
  EXPECT_THAT(
      error(file("c.jsonl", R"({"text": "ab", "input_ids": [1, 2], "token_weights": [1, 2]})")),
      HasSubstr("c.jsonl:1: field 'text': expected token ids beside 'token_weights', found text; name "
                "the field of ids with `field:`"));
}

TEST_F(Documents, AByteOrderMarkIsNotText) {
  EXPECT_THAT(texts(file("a.txt",
                         "\xef\xbb\xbf"
                         "abc")),
              ElementsAre("abc"));
  EXPECT_THAT(texts(file("a.jsonl", "\xef\xbb\xbf{\"text\": \"abc\"}\n")), ElementsAre("abc"));
}

TEST_F(Documents, RendersConversationsWithTheTemplate) {
  text::ChatTemplates templates;
  templates.standard.emplace(
      "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if tools %}{{ tools | length }}{% "
      "endif %}",
      "t.jinja", nlohmann::ordered_json::object());
  encoder_.templates = &templates;
  encoder_.special_tokens = true;  // the template's own are enough
  EXPECT_THAT(texts(file("a.jsonl",
                         R"({"messages": [{"role": "user", "content": "hi"}], "tools": "[{}, {}]"})"
                         "\n"
                         R"({"messages": [{"role": "u", "content": "a"}, {"role": "b", "content": "c"}]})")),
              ElementsAre("<user>hi2", "<u>a<b>c"));
  EXPECT_THAT(error(file("b.jsonl", "\n{\"messages\": [{\"role\": null}]}")),
              HasSubstr("b.jsonl:2: field 'messages': message 0: expected a text 'role', found null"));
  EXPECT_THAT(error(file("c.jsonl", R"({"messages": [{"role": "u", "content": "a"}], "tools": 5})")),
              HasSubstr("c.jsonl:1: field 'tools': expected a list"));
}

TEST_F(Documents, RefusesConversationsWithoutATemplate) {
  const DataSource source = file("a.jsonl", R"({"messages": [{"role": "user", "content": "hi"}]})");
  EXPECT_THAT(error(source), AllOf(HasSubstr("a.jsonl:1: field 'messages': a list of messages needs"),
                                   HasSubstr("chat_template")));
  const text::ChatTemplates none;
  encoder_.templates = &none;
  EXPECT_THAT(error(source), HasSubstr("a list of messages needs the model's chat template, and the model "
                                       "folder has none (chat_template.jinja"));
}

TEST_F(Documents, SaysWhyATemplateThatIsThereDoesNotServe) {
  const DataSource plain = file("a.jsonl", R"({"messages": [{"role": "user", "content": "hi"}]})");
  const DataSource with_tools =
      file("b.jsonl", R"({"messages": [{"role": "user", "content": "hi"}], "tools": [{}]})");
  text::ChatTemplates for_tools;
  for_tools.tool_use.emplace("{{ messages[0].content }}+{{ tools | length }}", "t.jinja",
                             nlohmann::ordered_json::object());
  encoder_.templates = &for_tools;
  EXPECT_THAT(
      error(plain),
      HasSubstr("a.jsonl:1: field 'messages': a list of messages needs the model's chat template, and "
                "the model folder has one for conversations with tools only; add another"));
  EXPECT_THAT(texts(with_tools), ElementsAre("hi+1"));
  text::ChatTemplates left_out;
  left_out.lacks_tokenizer_json = true;
  encoder_.templates = &left_out;
  EXPECT_THAT(error(plain), AllOf(HasSubstr("the model folder's can't be used without tokenizer.json"),
                                  HasSubstr("add tokenizer.json, or give the text itself")));
}

TEST_F(Documents, WithoutAValueAreCountedWhereOthersHaveOne) {
  const DataSource source =
      file("a.jsonl", "{\"text\": null}\n{\"text\": \"a\"}\n{\"url\": 5}\n{\"text\": \"b\"}\n");
  EXPECT_THAT(texts(source), ElementsAre("a", "b"));
  TokenStream stream;
  const StreamCounts counts = append(source, 0, encoder_, stream, nullptr);
  EXPECT_EQ(std::tie(counts.documents, counts.absent, counts.dropped), std::make_tuple(4, 2, 0));
}

TEST_F(Documents, NamesTheLineOfABadObject) {
  const std::pair<const char*, const char*> table[] = {
      {"{\"text\": \"a\"}\n\n{\"text\": oops}\n", ":3:10: not valid JSON"},
      {"\n{\"content\": \"a\", \"id\": 1}\n{\"text\": null}\n",
       ":2: the object has no field 'text'; its fields are 'content' and 'id'"},
      {"{}", ":1: the object has no field 'text'; its fields are none"},
      {"{\"text\": 5}\n",
       ":1: field 'text': expected a string, a list of messages or a list of token ids, "
       "found number"},
      {"{\"text\": null}\n",
       ":1: field 'text': expected a string, a list of messages or a list of token ids, found null"},
      {"{\"text\": {\"text\": \"a\"}}\n",
       ":1: field 'text': expected a string, a list of messages or a list of token ids, found object"},
      {"{\"text\": [1, null]}\n", ":1: field 'text': element 1: expected a token id, found null"},
      {"{\"text\": [1.5]}\n", ":1: field 'text': element 0: expected a token id, found 1.5"},
      {"{\"text\": [18446744073709551615]}\n",
       ":1: field 'text': element 0: expected a token id, found 18446744073709551615"},
      {"{\"text\": [[1]]}\n", ":1: field 'text': element 0: expected a token id, found array"},
      {"{\"text\": [-1]}\n", ":1: element 0: expected token ids from 0 or more, found -1"},
      {"[1]\n", ":1: expected a JSON object, found array"},
      {"5\n", ":1: expected a JSON object, found number"},
      {"{\"text\": \"\\ud800\"}\n", ":1:"},
      {"{\"text\": 1e999}\n", ":1: not valid JSON"}};
  for (const auto& [contents, message] : table)
    EXPECT_THAT(error(file("a.jsonl", contents, "text")), HasSubstr(std::string("a.jsonl") + message))
        << contents;
}

TEST_F(Documents, RefusesWhatIsNestedTooDeeply) {
  const std::string opened(100'000, '['), closed(100'000, ']');
  for (const std::string& line :
       {R"({"messages": [{"role": "user", "content": )" + opened + closed + "}]}",
        R"({"messages": [{"role": "user", "content": "x"}], "tools": )" + opened + closed + "}",
        R"({"input_ids": [1], "attention_mask": )" + opened + closed + "}",
        R"({"text": "]]]", "x": )" + opened + closed + "}"})
    EXPECT_THAT(error(file("a.jsonl", line)), HasSubstr("a.jsonl:1: JSON nested deeper than 64 levels"));
  const std::string in_text = R"({"text": ")" + opened + R"(\"[[{{"})";
  EXPECT_EQ(texts(file("b.jsonl", in_text)).size(), 1u) << "brackets in a text are text";
}

TEST_F(Documents, NamesLineAndOffsetOfInvalidUtf8) {
  EXPECT_THAT(error(file("a.txt", "one\ntwo\nth\xff")),
              HasSubstr("a.txt:3: invalid UTF-8 at byte offset 10 (0xff)"));
  EXPECT_THAT(error(file("b.txt", "\xc3")), HasSubstr("b.txt:1: invalid UTF-8 at byte offset 0 (0xc3)"));
  EXPECT_THAT(error(file("c.jsonl", "{\"text\": \"a\"}\n{\"text\": \"\xed\xa0\x80\"}\n")),
              HasSubstr("c.jsonl:2: invalid UTF-8 at byte offset 24"));
}

TEST_F(Documents, RefusesEmptyAndUnknownFiles) {
  EXPECT_THAT(error(file("a.txt", "")), HasSubstr("a.txt: the file is empty"));
  EXPECT_THAT(error(file("b.txt", " \n\t\n")), HasSubstr("b.txt: the file is empty"));
  EXPECT_THAT(error(file("c.jsonl", "")), HasSubstr("c.jsonl: the file is empty"));
  EXPECT_THAT(error({.path = folder_ / "none.txt"}), HasSubstr("none.txt: can't be opened"));
  EXPECT_THAT(
      error({.path = folder_ / "x.csv"}),
      AllOf(HasSubstr("x.csv: unknown kind of data file '.csv'"), HasSubstr(".txt"), HasSubstr(".jsonl"),
            HasSubstr(".parquet"), HasSubstr(".npy"), HasSubstr(".safetensors")));
}

TEST_F(Documents, RefusesIdsBeyondTheModelsVocabulary) {
  const DataSource text = file("a.txt", "az");
  encoder_.vocab_size = 'z' + 1;
  EXPECT_THAT(texts(text), ElementsAre("az"));
  EXPECT_THAT(documents(file("a.jsonl", "[122]")), ElementsAre(test::Ids{122}));
  encoder_.vocab_size = 'z';
  EXPECT_THAT(error(text),
              AllOf(HasSubstr("a.txt: the tokenizer gives token id 122"), HasSubstr("vocab_size is 122")));
  EXPECT_THAT(error(file("a.jsonl", "[5]\n[3, 122]")),
              HasSubstr("a.jsonl:2: element 1: expected token ids from 0 to 121 (the model's vocab_size is "
                        "122), found 122"));
}

}  // namespace
}  // namespace lathe
