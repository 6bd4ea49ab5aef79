#include "formats/gguf/gguf_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <vector>

#include "formats/gguf/pre_tokenizer_names.h"
#include "formats/gguf/tokenizer_keys.h"
#include "formats/safetensors/json_text.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

using nlohmann::json;

constexpr const char* kSpace = "\xE2\x96\x81";

class Reader {
 public:
  explicit Reader(const GgufFile& file) : file_(file) {}

  [[noreturn]] void refuse(const std::string& key, const std::string& what) const {
    user_error("{}: key 'tokenizer.ggml.{}': {}", file_.path().string(), key, what);
  }

  template <class T>
  const T* find(const std::string& key) const {
    const GgufValue* value = file_.find("tokenizer.ggml." + key);
    return value == nullptr ? nullptr : std::get_if<T>(value);
  }
  template <class T>
  const std::vector<T>& list(const std::string& key) const {
    const auto* array = find<GgufArray>(key);
    const auto* values = array == nullptr ? nullptr : std::get_if<std::vector<T>>(array);
    if (values == nullptr || values->empty()) refuse(key, "expected a list, found none of that type");
    return *values;
  }
  std::optional<std::string> token(const std::string& key, const std::vector<std::string>& tokens) const {
    const auto* id = find<uint32_t>(key + "_token_id");
    if (id == nullptr) return std::nullopt;
    if (*id >= tokens.size())
      refuse(key + "_token_id", fmt::format("expected an id below {}, found {}", tokens.size(), *id));
    return tokens[*id];
  }
  bool truth(const std::string& key, bool otherwise) const {
    const auto* value = find<GgufBool>(key);
    return value == nullptr ? otherwise : *value == GgufBool::yes;
  }
  const GgufFile& file() const { return file_; }

 private:
  const GgufFile& file_;
};

struct Tokens {
  const std::vector<std::string>& texts;
  std::vector<int32_t> types;
  bool is(size_t i, GgufTokenType type) const { return types[i] == static_cast<int32_t>(type); }
};

Tokens read_tokens(const Reader& reader) {
  Tokens tokens{reader.list<std::string>("tokens"), {}};
  tokens.types.assign(tokens.texts.size(), static_cast<int32_t>(GgufTokenType::normal));
  if (reader.find<GgufArray>("token_type") != nullptr) tokens.types = reader.list<int32_t>("token_type");
  if (tokens.types.size() != tokens.texts.size())
    reader.refuse("token_type",
                  fmt::format("expected {} types, found {}", tokens.texts.size(), tokens.types.size()));
  for (size_t i = 0; i < tokens.texts.size(); ++i) {
    if (invalid_utf8_offset(tokens.texts[i]))
      reader.refuse("tokens", fmt::format("token {} is not UTF-8", i));
  }
  return tokens;
}

json added_tokens(const Tokens& tokens) {
  json added = json::array();
  for (size_t i = 0; i < tokens.texts.size(); ++i) {
    const bool control = tokens.is(i, GgufTokenType::control) || tokens.is(i, GgufTokenType::unknown);
    if (!control && !tokens.is(i, GgufTokenType::user_defined)) continue;
    if (tokens.texts[i].empty()) continue;
    added.push_back({{"id", i},
                     {"content", tokens.texts[i]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", control}});
  }
  return added;
}

json vocabulary_of(const Reader& reader, const Tokens& tokens) {
  json vocab = json::object();
  for (size_t i = 0; i < tokens.texts.size(); ++i) {
    if (vocab.contains(tokens.texts[i])) {
      if (tokens.is(i, GgufTokenType::unused)) continue;
      reader.refuse("tokens", fmt::format("{} stands twice", quote_text(tokens.texts[i])));
    }
    vocab[tokens.texts[i]] = i;
  }
  return vocab;
}

/// What is put around a text; null: nothing.
json post_processor(const Reader& reader, const Tokens& tokens, bool bos_by_default) {
  json single = json::array(), specials = json::object();
  const auto add = [&](const char* kind) {
    const auto text = reader.token(kind, tokens.texts);
    if (!text) return;
    single.push_back({{"SpecialToken", {{"id", *text}, {"type_id", 0}}}});
    specials[*text] = {{"id", *text},
                       {"ids", {*reader.find<uint32_t>(std::string(kind) + "_token_id")}},
                       {"tokens", {*text}}};
  };
  const json sequence = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  if (reader.truth("add_bos_token", bos_by_default)) add("bos");
  single.push_back(sequence);
  if (reader.truth("add_eos_token", false)) add("eos");
  if (single.size() == 1) return nullptr;
  json pair = single;
  pair.push_back({{"Sequence", {{"id", "B"}, {"type_id", 1}}}});
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", specials}};
}

json byte_level_step(bool own_pattern) {
  return {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", own_pattern}};
}

json pre_tokenizer(const PreTokenizerName& name) {
  if (name.digits) {
    return {{"type", "Sequence"},
            {"pretokenizers", {{{"type", "Digits"}, {"individual_digits", true}}, byte_level_step(true)}}};
  }
  if (name.pattern.empty()) return byte_level_step(true);
  return {{"type", "Sequence"},
          {"pretokenizers",
           {{{"type", "Split"},
             {"pattern", {{"Regex", name.pattern}}},
             {"behavior", "Isolated"},
             {"invert", false}},
            byte_level_step(false)}}};
}

json bpe_model(json vocab, json merges) {
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"fuse_unk", false},
          {"end_of_word_suffix", nullptr},
          {"byte_fallback", false},
          {"ignore_merges", false},
          {"vocab", std::move(vocab)},
          {"merges", std::move(merges)}};
}

json byte_level(const Reader& reader, const Tokens& tokens) {
  const auto* pre = reader.find<std::string>("pre");
  const PreTokenizerName* name = pre == nullptr ? nullptr : find_pre_tokenizer(*pre);
  if (name == nullptr) {
    reader.refuse("pre", fmt::format("expected a pre-tokenizer that Lathe knows, found {}; put the model's "
                                     "tokenizer.json beside the file",
                                     pre == nullptr ? "none" : quote_text(*pre)));
  }
  json merges = json::array();
  for (const std::string& merge : reader.list<std::string>("merges")) {
    const size_t space = merge.find(' ', 1);
    if (space == std::string::npos || invalid_utf8_offset(merge))
      reader.refuse("merges", fmt::format("expected pairs, found {}", quote_text(merge)));
    merges.push_back({merge.substr(0, space), merge.substr(space + 1)});
  }
  json model = bpe_model(vocabulary_of(reader, tokens), std::move(merges));
  model["ignore_merges"] = name->ignore_merges;
  const bool bos = *pre == "llama-bpe" || *pre == "tekken";
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added_tokens(tokens)},
          {"normalizer", nullptr},
          {"pre_tokenizer", pre_tokenizer(*name)},
          {"post_processor", post_processor(reader, tokens, bos)},
          {"decoder", byte_level_step(true)},
          {"model", std::move(model)}};
}

/// Every way to make a piece of two, the pieces of the highest score first: what SentencePiece joins first.
json merges_of_scores(const Tokens& tokens, const std::vector<float>& scores) {
  std::map<std::string_view, size_t> pieces;
  for (size_t i = 0; i < tokens.texts.size(); ++i) {
    if (tokens.is(i, GgufTokenType::normal)) pieces.emplace(tokens.texts[i], i);
  }
  struct Merge {
    std::string_view left, right;
    size_t piece, left_id, right_id;
  };
  std::vector<Merge> found;
  for (const auto& [text, id] : pieces) {
    for (size_t cut = 1; cut < text.size(); ++cut) {
      const auto left = pieces.find(text.substr(0, cut)), right = pieces.find(text.substr(cut));
      if (left != pieces.end() && right != pieces.end())
        found.push_back({left->first, right->first, id, left->second, right->second});
    }
  }
  std::ranges::sort(found, [&](const Merge& a, const Merge& b) {
    if (scores[a.piece] != scores[b.piece]) return scores[a.piece] > scores[b.piece];
    return std::tuple(a.piece, a.left_id, a.right_id) < std::tuple(b.piece, b.left_id, b.right_id);
  });
  json merges = json::array();
  for (const Merge& merge : found) merges.push_back({merge.left, merge.right});
  return merges;
}

json sentencepiece(const Reader& reader, const Tokens& tokens) {
  const auto& scores = reader.list<float>("scores");
  if (scores.size() != tokens.texts.size())
    reader.refuse("scores", fmt::format("expected {} scores, found {}", tokens.texts.size(), scores.size()));
  const auto nan = std::ranges::find_if(scores, [](float score) { return std::isnan(score); });
  if (nan != scores.end())
    reader.refuse("scores", fmt::format("score {} is not a number", nan - scores.begin()));
  json model = bpe_model(vocabulary_of(reader, tokens), merges_of_scores(tokens, scores));
  model["byte_fallback"] = true;
  model["fuse_unk"] = true;
  if (const auto unknown = reader.token("unknown", tokens.texts)) model["unk_token"] = *unknown;
  json normalizers = json::array();
  if (reader.truth("add_space_prefix", true))
    normalizers.push_back({{"type", "Prepend"}, {"prepend", kSpace}});
  normalizers.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpace}});
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added_tokens(tokens)},
          {"normalizer", {{"type", "Sequence"}, {"normalizers", normalizers}}},
          {"pre_tokenizer", nullptr},
          {"post_processor", post_processor(reader, tokens, true)},
          {"decoder",
           {{"type", "Sequence"},
            {"decoders",
             {{{"type", "Replace"}, {"pattern", {{"String", kSpace}}}, {"content", " "}},
              {{"type", "ByteFallback"}},
              {{"type", "Fuse"}},
              {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}}},
          {"model", std::move(model)}};
}

}  // namespace

GgufTokenizer tokenizer_of_gguf(const GgufFile& file) {
  const Reader reader(file);
  const auto* model = reader.find<std::string>("model");
  const Tokens tokens = read_tokens(reader);
  GgufTokenizer result;
  if (model != nullptr && *model == "gpt2") {
    result.tokenizer = byte_level(reader, tokens);
  } else if (model != nullptr && *model == "llama") {
    result.tokenizer = sentencepiece(reader, tokens);
  } else {
    reader.refuse(
        "model",
        fmt::format("expected gpt2 or llama, found {}; put the model's tokenizer.json beside the file",
                    model == nullptr ? "none" : quote_text(*model)));
  }
  result.tokenizer_config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                             {"clean_up_tokenization_spaces", false}};
  for (const auto& [key, name] :
       {std::pair{"bos", "bos"}, {"eos", "eos"}, {"unknown", "unk"}, {"padding", "pad"}}) {
    if (const auto text = reader.token(key, tokens.texts))
      result.tokenizer_config[fmt::format("{}_token", name)] = *text;
  }
  const GgufValue* chat = file.find("tokenizer.chat_template");
  if (const auto* text = chat == nullptr ? nullptr : std::get_if<std::string>(chat)) {
    if (!invalid_utf8_offset(*text)) result.tokenizer_config["chat_template"] = *text;
  }
  return result;
}

}  // namespace lathe
