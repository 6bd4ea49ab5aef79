// Hostile and unsupported files: one UserError each, that names the file and the place; never a crash.
#include <functional>

#include "lib/base/error.h"
#include "tests/unit/text/tokenizer_json.h"

namespace lathe::test {
namespace {

struct Case {
  const char* name;
  std::function<void(json&)> damage;
  const char* message;  ///< what the error must hold
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

json split_with(const json& pattern) {
  return {{"type", "Split"}, {"pattern", pattern}, {"behavior", "Isolated"}, {"invert", false}};
}

json nested(const char* key, int depth) {
  json component = {{"type", "NFC"}};
  for (int i = 0; i < depth; ++i) component = {{"type", "Sequence"}, {key, json::array({component})}};
  return component;
}

json one_template(const json& single) {
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"pair", json::array()},
          {"special_tokens", json::object()}};
}

const std::vector<Case> kCases = {
    {"NoModel", [](json& d) { d.erase("model"); }, "model: the key is missing"},
    {"ModelIsText", [](json& d) { d["model"] = "BPE"; }, "model: expected an object"},
    {"DocumentIsArray", [](json& d) { d = json::array(); }, "expected an object"},
    {"OtherVersion", [](json& d) { d["version"] = "2.0"; }, "version: expected \"1.0\""},
    {"Unigram", [](json& d) { d["model"]["type"] = "Unigram"; }, "component 'Unigram' is not supported"},
    {"NoVocab", [](json& d) { d["model"].erase("vocab"); }, "model.vocab: the key is missing"},
    {"VocabIsArray", [](json& d) { d["model"]["vocab"] = json::array({1}); }, "model.vocab: expected"},
    {"IdIsText", [](json& d) { d["model"]["vocab"]["a"] = "0"; }, "model.vocab.a: expected an id"},
    {"IdIsNegative", [](json& d) { d["model"]["vocab"]["a"] = -1; }, "found -1"},
    {"IdIsHuge", [](json& d) { d["model"]["vocab"]["a"] = 1LL << 40; }, "found 1099511627776"},
    {"IdIsFraction", [](json& d) { d["model"]["vocab"]["a"] = 0.5; }, "found 0.5"},
    {"IdTwice", [](json& d) { d["model"]["vocab"]["b"] = 0; }, "id 0 stands for both"},
    {"MergesIsText", [](json& d) { d["model"]["merges"] = "a b"; }, "model.merges: expected an array"},
    {"MergeOfOne", [](json& d) { d["model"]["merges"] = {"a"}; }, "model.merges[0]: expected two tokens"},
    {"MergeOfThree", [](json& d) { d["model"]["merges"] = {"a b c"}; },
     "model.merges[0]: expected two tokens"},
    {"MergeOfNumbers",
     [](json& d) {
       d["model"]["merges"] = json::array({json::array({1, 2})});
     },
     "expected two tokens"},
    {"MergeOfUnknown", [](json& d) { d["model"]["merges"] = {"a z"}; }, "needs the token \"z\""},
    {"MergeGivesUnknown", [](json& d) { d["model"]["merges"] = {"b a"}; }, "needs the token \"ba\""},
    {"Dropout", [](json& d) { d["model"]["dropout"] = 0.1; }, "model.dropout: expected null"},
    {"Prefix", [](json& d) { d["model"]["continuing_subword_prefix"] = "##"; },
     "continuing_subword_prefix: expected"},
    {"Suffix", [](json& d) { d["model"]["end_of_word_suffix"] = "</w>"; }, "end_of_word_suffix: expected"},
    {"UnknownUnk", [](json& d) { d["model"]["unk_token"] = "<unk>"; },
     "unk_token: expected a token of model.vocab"},
    {"FlagIsNumber", [](json& d) { d["model"]["byte_fallback"] = 1; },
     "byte_fallback: expected true or false"},
    {"AddedIsObject", [](json& d) { d["added_tokens"] = json::object(); }, "added_tokens: expected an array"},
    {"AddedLacksFlag", [](json& d) { d["added_tokens"][0].erase("lstrip"); },
     "added_tokens[0].lstrip: the key is missing"},
    {"AddedOtherId", [](json& d) { d["added_tokens"][0]["id"] = 7; }, "added_tokens[0].id: expected 3"},
    {"AddedHugeId", [](json& d) { d["added_tokens"][0]["id"] = 1LL << 32; },
     "added_tokens[0].id: expected an id"},
    {"AddedAlike",
     [](json& d) {
       d["normalizer"] = {{"type", "Lowercase"}};
       d["added_tokens"] = {added_token(3, "X", {{"normalized", true}}),
                            added_token(4, "x", {{"normalized", true}})};
     },
     "becomes \"x\" once normalised"},
    {"AddedVanishes",
     [](json& d) {
       d["normalizer"] = {{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}};
       d["added_tokens"] = {added_token(3, " ", {{"normalized", true}})};
     },
     "which is empty"},
    {"NormalizerUnknown",
     [](json& d) {
       d["normalizer"] = {{"type", "Precompiled"}};
     },
     "normalizer: component 'Precompiled'"},
    {"NormalizerTypeless", [](json& d) { d["normalizer"] = json::object(); },
     "normalizer.type: the key is missing"},
    {"NormalizerIsText", [](json& d) { d["normalizer"] = "NFC"; }, "normalizer: expected an object"},
    {"NormalizerDeep", [](json& d) { d["normalizer"] = nested("normalizers", 1000); }, "at most 16 deep"},
    {"ReplaceWithout",
     [](json& d) {
       d["normalizer"] = {{"type", "Replace"}, {"content", ""}};
     },
     "pattern: the key is missing"},
    {"PreTokenizerUnknown",
     [](json& d) {
       d["pre_tokenizer"] = {{"type", "BertPreTokenizer"}};
     },
     "component 'BertPreTokenizer'"},
    {"PreTokenizerInside",
     [](json& d) {
       d["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {{{"type", "UnicodeScripts"}}}}};
     },
     "pre_tokenizer.pretokenizers[0]: component 'UnicodeScripts'"},
    {"PreTokenizerDeep", [](json& d) { d["pre_tokenizer"] = nested("pretokenizers", 1000); },
     "at most 16 deep"},
    {"BadRegex",
     [](json& d) {
       d["pre_tokenizer"] = split_with({{"Regex", "(a"}});
     },
     "pre_tokenizer.pattern: expected a regular"},
    {"OtherRegex",
     [](json& d) {
       d["pre_tokenizer"] = split_with({{"Regex", "[a&&b]"}});
     },
     "a class intersection"},
    {"PatternIsText", [](json& d) { d["pre_tokenizer"] = split_with("a"); },
     "pre_tokenizer.pattern: expected an object"},
    {"PatternOther",
     [](json& d) {
       d["pre_tokenizer"] = split_with({{"Glob", "a"}});
     },
     "pre_tokenizer.pattern: expected {\"String\""},
    {"BadBehavior",
     [](json& d) {
       d["pre_tokenizer"] = split_with({{"String", "a"}});
       d["pre_tokenizer"]["behavior"] = "Kept";
     },
     "behavior: expected one of"},
    {"LongReplacement",
     [](json& d) {
       d["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "__"}};
     },
     "expected one character"},
    {"EmptyReplacement",
     [](json& d) {
       d["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", ""}};
     },
     "expected one character"},
    {"MetaspaceDisagrees",
     [](json& d) {
       d["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "_"}, {"add_prefix_space", false}};
     },
     "add_prefix_space: expected"},
    {"PostProcessorUnknown",
     [](json& d) {
       d["post_processor"] = {{"type", "BertProcessing"}};
     },
     "component 'BertProcessing'"},
    {"TemplateUnknownToken",
     [](json& d) {
       d["post_processor"] = one_template({{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}}});
     },
     "special_tokens.<s>: the key is missing"},
    {"TemplateSecondSequence",
     [](json& d) {
       d["post_processor"] = one_template({{{"Sequence", {{"id", "B"}, {"type_id", 0}}}}});
     },
     "expected \"A\""},
    {"TemplateOtherPiece", [](json& d) { d["post_processor"] = one_template({"$A"}); }, "expected an object"},
    {"TwoTemplates",
     [](json& d) {
       const json none = one_template(json::array());
       d["post_processor"] = {{"type", "Sequence"}, {"processors", {none, none}}};
     },
     "one TemplateProcessing"},
};

class Malformed : public testing::TestWithParam<Case> {};

void expect_refusal(const TemporaryFolder& folder, const std::string& file, const std::string& message) {
  try {
    open_tokenizer(folder.path());
    FAIL() << "no error";
  } catch (const UserError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find((folder.path() / file).string()), std::string::npos) << text;
    EXPECT_NE(text.find(message), std::string::npos) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  }
}

TEST_P(Malformed, IsRefused) {
  json document = bpe_document({"a", "b", "ab"}, {"a b"});
  document["added_tokens"] = {added_token(3, "<s>")};
  ASSERT_EQ(ids_of(document, "ab<s>"), (Ids{2, 3}));
  GetParam().damage(document);
  const TemporaryFolder folder;
  folder.write("tokenizer.json", document.dump());
  expect_refusal(folder, "tokenizer.json", GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(Json, Malformed, testing::ValuesIn(kCases),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(MalformedBytes, AreRefused) {
  const std::string open(200000, '[');
  for (const std::string& bytes :
       {std::string(), std::string("{"), std::string("{\"model\":\"\xff\"}"), std::string("nonsense"),
        std::string("\"\\ud800\""), open, open + std::string(200000, ']')}) {
    const TemporaryFolder folder;
    folder.write("tokenizer.json", bytes);
    expect_refusal(folder, "tokenizer.json", "expected");
  }
}

// Every prefix of a valid file is refused or (where only white space is cut) still valid: no prefix crashes.
TEST(MalformedBytes, EveryPrefixIsRefused) {
  json document = bpe_document({"a", "b", "ab"}, {"a b"});
  document["added_tokens"] = {added_token(3, "<s>")};
  const std::string whole = document.dump();
  const TemporaryFolder folder;
  for (size_t size = 0; size < whole.size(); ++size) {
    folder.write("tokenizer.json", whole.substr(0, size));
    expect_refusal(folder, "tokenizer.json", "expected JSON");
  }
}

}  // namespace
}  // namespace lathe::test
