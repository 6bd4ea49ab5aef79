// Tokenizers as keys: byte-level BPE, SentencePiece with and without its model file, and what llama.cpp has
// no like of.
#include "formats/gguf/tokenizer_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "lib/base/error.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

/// A folder with a few files that goes away with the test.
class Folder {
 public:
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "lathe-tokenizer-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~Folder() { fs::remove_all(path_); }
  void write(const char* file, const std::string& text) const { std::ofstream(path_ / file) << text; }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

json byte_level() {
  return {{"version", "1.0"},
          {"added_tokens",
           {{{"id", 3}, {"content", "<|end|>"}, {"special", false}},
            {{"id", 4}, {"content", "\xE2\x96\x81tool"}, {"special", false}}}},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"post_processor", nullptr},
          {"model", {{"type", "BPE"}, {"vocab", {{"a", 0}, {"b", 1}, {"ab", 2}}}, {"merges", {"a b"}}}}};
}

std::map<std::string, GgufValue> keys_of(const Folder& folder, int64_t vocab_size) {
  std::map<std::string, GgufValue> keys;
  for (auto& [key, value] : tokenizer_keys(folder.path(), vocab_size).keys) keys[key] = value;
  return keys;
}

template <class T>
const T& array_at(const std::map<std::string, GgufValue>& keys, const std::string& key) {
  return std::get<T>(std::get<GgufArray>(keys.at(key)));
}

std::string error_of(const json& tokenizer) {
  const Folder folder;
  folder.write("tokenizer.json", tokenizer.dump());
  try {
    tokenizer_keys(folder.path(), 6);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(TokenizerKeys, ByteLevel) {
  const Folder folder;
  folder.write("tokenizer.json", byte_level().dump());
  folder.write("tokenizer_config.json", R"({"eos_token": {"content": "<|end|>"}, "chat_template": "T"})");
  const auto keys = keys_of(folder, 6);
  EXPECT_EQ(std::get<std::string>(keys.at("tokenizer.ggml.model")), "gpt2");
  EXPECT_EQ(std::get<std::string>(keys.at("tokenizer.ggml.pre")), "gpt-2");
  EXPECT_THAT(array_at<std::vector<std::string>>(keys, "tokenizer.ggml.tokens"),
              ElementsAre("a", "b", "ab", "<|end|>", " tool", "[PAD5]"));
  EXPECT_THAT(array_at<std::vector<int32_t>>(keys, "tokenizer.ggml.token_type"),
              ElementsAre(1, 1, 1, 3, 4, 5));
  EXPECT_THAT(array_at<std::vector<std::string>>(keys, "tokenizer.ggml.merges"), ElementsAre("a b"));
  EXPECT_EQ(std::get<uint32_t>(keys.at("tokenizer.ggml.eos_token_id")), 3u);
  EXPECT_EQ(std::get<GgufBool>(keys.at("tokenizer.ggml.add_bos_token")), GgufBool::no);
  EXPECT_EQ(std::get<std::string>(keys.at("tokenizer.chat_template")), "T");
  EXPECT_FALSE(keys.contains("tokenizer.ggml.scores"));
}

TEST(TokenizerKeys, PostProcessorSaysWhatIsAdded) {
  const Folder folder;
  json tokenizer = byte_level();
  tokenizer["post_processor"] = {
      {"type", "Sequence"},
      {"processors",
       {{{"type", "ByteLevel"}},
        {{"type", "TemplateProcessing"},
         {"single", {{{"SpecialToken", {{"id", "<|end|>"}}}}, {{"Sequence", {{"id", "A"}}}}}}}}}};
  folder.write("tokenizer.json", tokenizer.dump());
  folder.write("tokenizer_config.json", R"({"add_bos_token": false})");
  const auto keys = keys_of(folder, 5);
  EXPECT_EQ(std::get<GgufBool>(keys.at("tokenizer.ggml.add_bos_token")), GgufBool::yes);
  EXPECT_EQ(std::get<uint32_t>(keys.at("tokenizer.ggml.bos_token_id")), 3u);
  EXPECT_EQ(std::get<GgufBool>(keys.at("tokenizer.ggml.add_eos_token")), GgufBool::no);
}

TEST(TokenizerKeys, PreTokenizers) {
  const auto named = [](const json& pre_tokenizer, bool ignore_merges) {
    const Folder folder;
    json tokenizer = byte_level();
    tokenizer["pre_tokenizer"] = pre_tokenizer;
    tokenizer["model"]["ignore_merges"] = ignore_merges;
    folder.write("tokenizer.json", tokenizer.dump());
    return std::get<std::string>(keys_of(folder, 6).at("tokenizer.ggml.pre"));
  };
  const auto split = [](const std::string& pattern) -> json {
    return {
        {"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}},
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  };
  // As they stand in the tokenizer.json of Llama 3, Qwen2 and Mistral Nemo.
  const std::string llama3 =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const std::string qwen2 =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const std::string tekken =
      R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  EXPECT_EQ(named(split(llama3), true), "llama-bpe");
  EXPECT_EQ(named(split(llama3), false), "smaug-bpe");
  EXPECT_EQ(named(split(qwen2), false), "qwen2");
  EXPECT_EQ(named(split(tekken), true), "tekken");
  const json digits = {{"type", "Sequence"},
                       {"pretokenizers",
                        {{{"type", "Digits"}, {"individual_digits", true}},
                         {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}}}};
  EXPECT_EQ(named(digits, false), "smollm");
}

TEST(TokenizerKeys, SentencePieceWithoutItsModelFile) {
  const Folder folder;
  const std::string space = "\xE2\x96\x81";
  const json tokenizer = {
      {"added_tokens", {{{"id", 0}, {"content", "<unk>"}, {"special", true}}}},
      {"normalizer", {{"type", "Prepend"}, {"prepend", space}}},
      {"model",
       {{"type", "BPE"},
        {"byte_fallback", true},
        {"unk_token", "<unk>"},
        {"vocab", {{"<unk>", 0}, {"<0x41>", 1}, {"a", 2}, {"b", 3}, {"ab", 4}, {"aab", 5}}},
        {"merges", json::parse(R"([["a", "b"], ["a", "ab"]])")}}}};
  folder.write("tokenizer.json", tokenizer.dump());
  const auto keys = keys_of(folder, 6);
  EXPECT_EQ(std::get<std::string>(keys.at("tokenizer.ggml.model")), "llama");
  EXPECT_THAT(array_at<std::vector<int32_t>>(keys, "tokenizer.ggml.token_type"),
              ElementsAre(3, 6, 1, 1, 1, 1));
  const auto& scores = array_at<std::vector<float>>(keys, "tokenizer.ggml.scores");
  EXPECT_GT(scores[4], scores[5]) << "earlier merges first";
  EXPECT_GT(scores[5], scores[2]) << "letters last";
  EXPECT_EQ(std::get<GgufBool>(keys.at("tokenizer.ggml.add_space_prefix")), GgufBool::yes);
}

TEST(TokenizerKeys, PreTokenizerThatIsAskedFor) {
  json unknown = byte_level();
  unknown["pre_tokenizer"] = {{"type", "Whitespace"}};
  const auto pre = [](const json& tokenizer, const std::string& asked, size_t warnings) {
    const Folder folder;
    folder.write("tokenizer.json", tokenizer.dump());
    const TokenizerKeys result = tokenizer_keys(folder.path(), 6, asked);
    EXPECT_EQ(result.warnings.size(), warnings) << asked;
    for (const auto& [key, value] : result.keys) {
      if (key == "tokenizer.ggml.pre") return std::get<std::string>(value);
    }
    return std::string();
  };
  EXPECT_EQ(pre(unknown, "deepseek-llm", 1), "deepseek-llm");
  EXPECT_EQ(pre(byte_level(), "qwen2", 1), "qwen2") << "against tokenizer.json";
  EXPECT_EQ(pre(byte_level(), "gpt-2", 0), "gpt-2") << "what it is anyway";
}

TEST(TokenizerKeys, Refused) {
  EXPECT_EQ(error_of(byte_level()), "");
  const auto with = [](const char* pointer, const json& value) {
    json tokenizer = byte_level();
    tokenizer[json::json_pointer(pointer)] = value;
    return error_of(tokenizer);
  };
  EXPECT_THAT(with("/model/type", "Unigram"), HasSubstr("model.type: expected BPE, found 'Unigram'"));
  EXPECT_THAT(with("/pre_tokenizer", json{{"type", "Whitespace"}}),
              HasSubstr("Lathe knows no name that llama.cpp has for it"));
  EXPECT_THAT(with("/pre_tokenizer/add_prefix_space", true),
              HasSubstr("Lathe knows no name that llama.cpp has for it"));
  EXPECT_THAT(with("/normalizer", json{{"type", "Lowercase"}}), HasSubstr("normalizer: 'Lowercase'"));
  EXPECT_THAT(with("/model/merges", json::array({"ab"})), HasSubstr("model.merges: expected pairs"));
  EXPECT_THAT(with("/model/vocab/c", 6), HasSubstr("token 'c' has the id 6, but the embedding has 6 rows"));
  EXPECT_THAT(with("/model/vocab/c", "x"), HasSubstr("expected an id"));
  EXPECT_THAT(with("/added_tokens/0/id", -1), HasSubstr("has the id -1"));
  const Folder empty;
  EXPECT_THROW(tokenizer_keys(empty.path(), 6), UserError);
  const Folder broken;
  broken.write("tokenizer.model", "no model");
  EXPECT_THROW(tokenizer_keys(broken.path(), 6), UserError);
}

}  // namespace
}  // namespace lathe
