// A file's tokenizer as Hugging Face's files.
#include "formats/gguf/gguf_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/gguf/gguf_writer.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

using nlohmann::json;
using testing::HasSubstr;

using Texts = std::vector<std::string>;

GgufMetadata byte_level() {
  return {{"tokenizer.ggml.model", std::string("gpt2")},
          {"tokenizer.ggml.pre", std::string("qwen2")},
          {"tokenizer.ggml.tokens", GgufArray(Texts{"a", "b", "ab", "<|end|>", "[PAD4]"})},
          {"tokenizer.ggml.token_type", GgufArray(std::vector<int32_t>{1, 1, 1, 3, 5})},
          {"tokenizer.ggml.merges", GgufArray(Texts{"a b"})},
          {"tokenizer.ggml.eos_token_id", uint32_t{3}},
          {"tokenizer.chat_template", std::string("{{ x }}")}};
}

GgufMetadata sentencepiece() {
  return {{"tokenizer.ggml.model", std::string("llama")},
          {"tokenizer.ggml.tokens", GgufArray(Texts{"<unk>", "<s>", "a", "b", "ab", "aab", "<0x41>"})},
          {"tokenizer.ggml.scores", GgufArray(std::vector<float>{0, 0, -9, -9, -2, -1, 0})},
          {"tokenizer.ggml.token_type", GgufArray(std::vector<int32_t>{2, 3, 1, 1, 1, 1, 6})},
          {"tokenizer.ggml.bos_token_id", uint32_t{1}},
          {"tokenizer.ggml.unknown_token_id", uint32_t{0}}};
}

GgufTokenizer read(const GgufMetadata& keys) {
  const auto path = std::filesystem::path(testing::TempDir()) / "lathe_gguf_tokenizer.gguf";
  GgufWriter(path, keys, {}).finish();
  return tokenizer_of_gguf(GgufFile::open(path));
}

std::string error_of(GgufMetadata keys, const std::string& key, std::optional<GgufValue> value) {
  std::erase_if(keys, [&](const auto& entry) { return entry.first == key; });
  if (value) keys.emplace_back(key, *value);
  try {
    read(keys);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(GgufTokenizer, ByteLevel) {
  const GgufTokenizer found = read(byte_level());
  const json& model = found.tokenizer["model"];
  EXPECT_EQ(model["vocab"]["ab"], 2);
  EXPECT_EQ(model["merges"], json::parse(R"([["a", "b"]])"));
  EXPECT_EQ(found.tokenizer["added_tokens"].size(), 1u);
  EXPECT_EQ(found.tokenizer["added_tokens"][0]["content"], "<|end|>");
  EXPECT_EQ(found.tokenizer["pre_tokenizer"]["pretokenizers"][0]["type"], "Split");
  EXPECT_TRUE(found.tokenizer["post_processor"].is_null());
  EXPECT_EQ(found.tokenizer_config["eos_token"], "<|end|>");
  EXPECT_EQ(found.tokenizer_config["chat_template"], "{{ x }}");
}

TEST(GgufTokenizer, SentencePieceJoinsTheHighestScoreFirst) {
  const GgufTokenizer found = read(sentencepiece());
  EXPECT_EQ(found.tokenizer["model"]["merges"], json::parse(R"([["a", "ab"], ["a", "b"]])"));
  EXPECT_EQ(found.tokenizer["model"]["byte_fallback"], true);
  EXPECT_EQ(found.tokenizer["model"]["unk_token"], "<unk>");
  EXPECT_EQ(found.tokenizer["normalizer"]["normalizers"][0]["type"], "Prepend");
  EXPECT_EQ(found.tokenizer["post_processor"]["single"][0]["SpecialToken"]["id"], "<s>") << "BOS by default";
}

TEST(GgufTokenizer, Refused) {
  const std::string prefix = "tokenizer.ggml.";
  const auto list = [](Texts texts) { return GgufValue(GgufArray(std::move(texts))); };
  EXPECT_THAT(error_of(byte_level(), prefix + "model", std::nullopt),
              HasSubstr("expected gpt2 or llama, found none"));
  EXPECT_THAT(error_of(byte_level(), prefix + "model", std::string("t5")), HasSubstr("found 't5'"));
  EXPECT_THAT(error_of(byte_level(), prefix + "pre", std::string("x")),
              HasSubstr("tokenizer.json beside the file"));
  EXPECT_THAT(error_of(byte_level(), prefix + "tokens", std::nullopt), HasSubstr("tokens': expected a list"));
  EXPECT_THAT(error_of(byte_level(), prefix + "tokens", uint32_t{5}), HasSubstr("tokens': expected a list"));
  EXPECT_THAT(error_of(byte_level(), prefix + "tokens", list({"a", "a", "ab", "<|end|>", "x"})),
              HasSubstr("'a' stands twice"));
  EXPECT_THAT(error_of(byte_level(), prefix + "tokens", list({"a", "\xFF", "ab", "<|end|>", "x"})),
              HasSubstr("token 1 is not UTF-8"));
  EXPECT_THAT(error_of(byte_level(), prefix + "tokens", list({"a"})), HasSubstr("expected 1 types, found 5"));
  EXPECT_THAT(error_of(byte_level(), prefix + "merges", list({"ab"})),
              HasSubstr("merges': expected pairs, found 'ab'"));
  EXPECT_THAT(error_of(byte_level(), prefix + "merges", std::nullopt), HasSubstr("merges': expected a list"));
  EXPECT_THAT(error_of(byte_level(), prefix + "eos_token_id", uint32_t{5}),
              HasSubstr("expected an id below 5, found 5"));
  EXPECT_THAT(error_of(sentencepiece(), prefix + "scores", std::nullopt),
              HasSubstr("scores': expected a list"));
  EXPECT_THAT(error_of(sentencepiece(), prefix + "scores", GgufArray(std::vector<float>{1})),
              HasSubstr("expected 7 scores, found 1"));
}

}  // namespace
}  // namespace lathe
