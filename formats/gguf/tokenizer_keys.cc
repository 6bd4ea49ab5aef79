// llama.cpp knows two tokenizers that Lathe's families have: "gpt2", byte-level BPE by merges, and "llama",
// SentencePiece's BPE, which joins the neighbours whose piece has the highest score. A tokenizer.json of the
// latter kind without its tokenizer.model has merges instead of scores: a piece's score is then minus the
// rank of the first merge that makes it, which orders them alike. (llama.cpp's converter gives all pieces of
// such a file one score.)
//
// A name for the pre-tokenizer that doesn't fit would give other ids without a word, so a tokenizer that
// isn't recognised is refused.
#include "formats/gguf/tokenizer_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "formats/gguf/pre_tokenizer_names.h"
#include "formats/gguf/sentencepiece_model.h"
#include "formats/safetensors/json_text.h"
#include "lib/base/error.h"
#include "lib/base/file.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr uint64_t kMaxBytes = uint64_t{1} << 30;
constexpr std::string_view kSpace = "\xE2\x96\x81";  // SentencePiece's
constexpr float kHoleScore = -10000.0f, kAddedScore = -1000.0f;

bool present(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

json read_optional(const fs::path& path) {
  return present(path) ? read_json_object(path, kMaxBytes) : json::object();
}

/// Without exceptions for values of another type: null then.
const json& at(const json& value, const char* key) {
  static const json null;
  if (!value.is_object()) return null;
  const auto found = value.find(key);
  return found == value.end() ? null : *found;
}

std::string text_of(const json& value) { return value.is_string() ? value.get<std::string>() : ""; }

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t place = 0; (place = text.find(from, place)) != std::string::npos; place += to.size())
    text.replace(place, from.size(), to);
}

/// Added tokens that their files forget to call special; llama.cpp's converter has the same list.
bool looks_special(const std::string& token) {
  const auto between = [&](std::string_view begin, std::string_view end) {
    return token.starts_with(begin) && token.ends_with(end);
  };
  static constexpr std::array<std::string_view, 4> kNames = {"<pad>", "<mask>", "<2mass>", "[@BOS@]"};
  return std::ranges::find(kNames, token) != kNames.end() || between("<|", "|>") ||
         between("<\xEF\xBD\x9C", "\xEF\xBD\x9C>") || between("<unused", ">");
}

/// Tokens by id; a hole is an unused token.
class Vocabulary {
 public:
  Vocabulary(std::string file, int64_t size) : file_(std::move(file)) {
    for (int64_t i = 0; i < size; ++i) tokens_.push_back(fmt::format("[PAD{}]", i));
    scores_.assign(tokens_.size(), kHoleScore);
    types_.assign(tokens_.size(), static_cast<int32_t>(GgufTokenType::unused));
  }

  void set(int64_t id, std::string token, GgufTokenType type, float score) {
    if (id < 0 || id >= std::ssize(tokens_)) {
      user_error("{}: token {} has the id {}, but the embedding has {} rows", file_, quote_text(token), id,
                 tokens_.size());
    }
    ids_.emplace(token, id);
    tokens_[id] = std::move(token);
    types_[id] = static_cast<int32_t>(type);
    scores_[id] = score;
  }

  /// A token added to the model's own.
  void add(int64_t id, std::string token, bool special) {
    ids_.emplace(token, id);
    const bool control = special || looks_special(token);
    if (!control) replace_all(token, kSpace, " ");
    set(id, std::move(token), control ? GgufTokenType::control : GgufTokenType::user_defined, kAddedScore);
  }

  std::optional<int64_t> find(const std::string& token) const {
    const auto found = ids_.find(token);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }
  const std::vector<std::string>& tokens() const { return tokens_; }
  const std::vector<float>& scores() const { return scores_; }
  const std::vector<int32_t>& types() const { return types_; }

 private:
  std::string file_;
  std::vector<std::string> tokens_;
  std::vector<float> scores_;
  std::vector<int32_t> types_;
  std::map<std::string, int64_t> ids_;
};

/// What stands in the folder.
struct Files {
  fs::path folder;
  json tokenizer, tokenizer_config, config;

  std::string name(const char* file) const { return (folder / file).string(); }
};

int64_t id_of(const json& value, const std::string& file, const std::string& what) {
  if (!value.is_number_integer())
    user_error("{}: {}: expected an id, found {}", file, what, value.type_name());
  return value.get<int64_t>();
}

void add_added_tokens(const Files& files, Vocabulary& vocabulary) {
  const std::string file = files.name("tokenizer.json");
  if (at(files.tokenizer, "added_tokens").is_array()) {
    for (const json& token : at(files.tokenizer, "added_tokens"))
      vocabulary.add(id_of(at(token, "id"), file, "added_tokens"), text_of(at(token, "content")),
                     at(token, "special") == true);
    return;
  }
  const json older = read_optional(files.folder / "added_tokens.json");
  for (const auto& [token, id] : older.items())
    vocabulary.add(id_of(id, files.name("added_tokens.json"), token), token, false);
  const json& decoder = at(files.tokenizer_config, "added_tokens_decoder");
  if (!decoder.is_object()) return;
  for (const auto& [id, token] : decoder.items()) {
    if (id.empty() || id.size() > 9 || id.find_first_not_of("0123456789") != std::string::npos)
      user_error("{}: added_tokens_decoder: expected ids, found {}", files.name("tokenizer_config.json"),
                 quote_text(id));
    vocabulary.add(std::stoll(id), text_of(at(token, "content")), at(token, "special") == true);
  }
}

/// One merge as llama.cpp reads it: "left right", a space inside written as its byte-level letter.
std::pair<std::string, std::string> merge_of(const json& merge, const std::string& file) {
  std::pair<std::string, std::string> parts;
  if (merge.is_array() && merge.size() == 2) {
    parts = {text_of(merge[0]), text_of(merge[1])};
  } else if (merge.is_string()) {
    const auto text = merge.get<std::string>();
    const size_t space = text.find(' ');
    if (space != std::string::npos) parts = {text.substr(0, space), text.substr(space + 1)};
  }
  if (parts.first.empty() || parts.second.empty())
    user_error("{}: model.merges: expected pairs, found {}", file, quote_text(merge.dump()));
  return parts;
}

std::vector<std::pair<std::string, std::string>> merges_of(const Files& files) {
  const std::string file = files.name("tokenizer.json");
  const json& merges = at(at(files.tokenizer, "model"), "merges");
  if (!merges.is_array()) user_error("{}: model.merges: expected a list", file);
  std::vector<std::pair<std::string, std::string>> result;
  for (const json& merge : merges) result.push_back(merge_of(merge, file));
  return result;
}

bool is_byte_piece(const std::string& token) {
  return token.size() == 6 && token.starts_with("<0x") && token.ends_with(">");
}

/// Scores of a BPE vocabulary: see above.
std::map<std::string, float> scores_by_merge(const std::vector<std::pair<std::string, std::string>>& merges) {
  std::map<std::string, float> scores;
  for (size_t rank = 0; rank < merges.size(); ++rank)
    scores.emplace(merges[rank].first + merges[rank].second, -static_cast<float>(rank));
  return scores;
}

void fill_from_json(const Files& files, const std::map<std::string, float>& scores, Vocabulary& vocabulary) {
  const std::string file = files.name("tokenizer.json");
  const json& vocab = at(at(files.tokenizer, "model"), "vocab");
  if (!vocab.is_object()) user_error("{}: model.vocab: expected an object", file);
  const std::string unknown = text_of(at(at(files.tokenizer, "model"), "unk_token"));
  const bool byte_fallback = at(at(files.tokenizer, "model"), "byte_fallback") == true;
  const float last = -static_cast<float>(scores.size());
  for (const auto& [token, id] : vocab.items()) {
    const auto score = scores.find(token);
    GgufTokenType type = GgufTokenType::normal;
    if (byte_fallback && is_byte_piece(token)) type = GgufTokenType::byte;
    if (!unknown.empty() && token == unknown) type = GgufTokenType::unknown;
    vocabulary.set(id_of(id, file, "model.vocab"), token, type, score == scores.end() ? last : score->second);
  }
}

void fill_from_sentencepiece(const SentencePieceModel& model, const std::string& file,
                             Vocabulary& vocabulary) {
  if (!model.bpe)
    user_error(
        "{}: its pieces were chosen by a unigram model; llama.cpp's tokenizer for these families is BPE",
        file);
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    const auto& piece = model.pieces[i];
    if (piece.type < 1 || piece.type > 6) user_error("{}: piece {} has the type {}", file, i, piece.type);
    vocabulary.set(static_cast<int64_t>(i), piece.text, static_cast<GgufTokenType>(piece.type), piece.score);
  }
}

/// The text of a special token: "<s>" or {"content": "<s>"}.
std::string token_text(const json& value) {
  return value.is_object() ? text_of(at(value, "content")) : text_of(value);
}

/// What the post-processor puts around a text.
struct Around {
  bool known = false;
  std::string first, last;
};

Around around(const json& processor) {
  Around result;
  if (at(processor, "type") == "Sequence") {
    for (const json& part : at(processor, "processors")) {
      const Around found = around(part);
      result.known = result.known || found.known;
      if (!found.first.empty()) result.first = found.first;
      if (!found.last.empty()) result.last = found.last;
    }
    return result;
  }
  result.known = at(processor, "type") == "TemplateProcessing" || at(processor, "type") == "ByteLevel";
  const json& single = at(processor, "single");
  if (!single.is_array() || single.size() < 2) return result;
  result.first = text_of(at(at(single.front(), "SpecialToken"), "id"));
  result.last = text_of(at(at(single.back(), "SpecialToken"), "id"));
  return result;
}

class KeyWriter {
 public:
  void tokenizer(const std::string& key, GgufValue value) {
    keys_.emplace_back("tokenizer.ggml." + key, std::move(value));
  }
  void plain(const std::string& key, GgufValue value) { keys_.emplace_back(key, std::move(value)); }
  GgufMetadata take() { return std::move(keys_); }

 private:
  GgufMetadata keys_;
};

GgufBool truth(bool value) { return value ? GgufBool::yes : GgufBool::no; }

/// The id of "bos_token" and the like: of tokenizer_config.json's text, else config.json's number.
std::optional<int64_t> special_id(const Files& files, const Vocabulary& vocabulary, const std::string& kind,
                                  const std::string& instead) {
  std::string token = token_text(at(files.tokenizer_config, (kind + "_token").c_str()));
  if (token.empty()) token = instead;
  if (!token.empty()) {
    if (const auto id = vocabulary.find(token)) return id;
  }
  const std::string key = kind + "_token_id";
  const json& own = at(files.config, key.c_str());
  const json& number = own.is_null() ? at(at(files.config, "text_config"), key.c_str()) : own;
  if (number.is_number_integer() && number >= 0 && number < vocabulary.tokens().size())
    return number.get<int64_t>();
  return std::nullopt;
}

void add_specials(const Files& files, const Vocabulary& vocabulary, bool bos_by_default, KeyWriter& keys) {
  constexpr std::array<std::pair<const char*, const char*>, 7> kKinds = {
      {{"bos", "bos"},
       {"eos", "eos"},
       {"unk", "unknown"},
       {"sep", "seperator"},  // as llama.cpp has it
       {"pad", "padding"},
       {"cls", "cls"},
       {"mask", "mask"}}};
  const Around put = around(at(files.tokenizer, "post_processor"));
  std::map<std::string, std::optional<int64_t>> ids;
  for (const auto& [kind, key] : kKinds) {
    const std::string instead = kind == std::string("bos")   ? put.first
                                : kind == std::string("eos") ? put.last
                                                             : "";
    ids[kind] = special_id(files, vocabulary, kind, instead);
    if (ids[kind]) keys.tokenizer(std::string(key) + "_token_id", static_cast<uint32_t>(*ids[kind]));
  }
  const auto adds = [&](const char* kind, const std::string& token, bool otherwise) {
    if (put.known) return !token.empty() && ids[kind] && vocabulary.find(token) == ids[kind];
    const json& flag = at(files.tokenizer_config, fmt::format("add_{}_token", kind).c_str());
    return flag.is_boolean() ? flag.get<bool>() : otherwise;
  };
  keys.tokenizer("add_bos_token", truth(adds("bos", put.first, bos_by_default)));
  const bool eos = adds("eos", put.last, false);
  if (eos || at(files.tokenizer_config, "add_eos_token").is_boolean() || put.known)
    keys.tokenizer("add_eos_token", truth(eos));
}

void add_chat_template(const Files& files, KeyWriter& keys) {
  if (const fs::path file = files.folder / "chat_template.jinja"; present(file))
    return keys.plain("tokenizer.chat_template", read_text_file(file, kMaxBytes));
  json templates = at(read_optional(files.folder / "chat_template.json"), "chat_template");
  if (templates.is_null()) templates = at(files.tokenizer_config, "chat_template");
  if (templates.is_string()) return keys.plain("tokenizer.chat_template", templates.get<std::string>());
  if (!templates.is_array()) return;
  std::vector<std::string> names;
  for (const json& one : templates) {
    const std::string name = text_of(at(one, "name")), text = text_of(at(one, "template"));
    if (name == "default") {
      keys.plain("tokenizer.chat_template", text);
    } else if (!name.empty()) {
      keys.plain("tokenizer.chat_template." + name, text);
      names.push_back(name);
    }
  }
  if (!names.empty()) keys.plain("tokenizer.chat_templates", GgufArray(names));
}

void add_vocabulary(const Vocabulary& vocabulary, bool scores, KeyWriter& keys) {
  keys.tokenizer("tokens", GgufArray(vocabulary.tokens()));
  if (scores) keys.tokenizer("scores", GgufArray(vocabulary.scores()));
  keys.tokenizer("token_type", GgufArray(vocabulary.types()));
}

/// Normalisation before BPE, which llama.cpp does none of.
void check_normalizer(const Files& files, std::vector<std::string>& warnings) {
  const json& normalizer = at(files.tokenizer, "normalizer");
  if (normalizer.is_null()) return;
  const std::string type = text_of(at(normalizer, "type"));
  if (type == "NFC") {
    warnings.push_back(
        "llama.cpp does not normalise text (tokenizer.json: NFC): text that is not in that form gets other "
        "ids");
    return;
  }
  user_error("{}: normalizer: {}, which llama.cpp's tokenizer gpt2 does not do", files.name("tokenizer.json"),
             quote_text(type));
}

/// tokenizer.ggml.pre. `asked`: what the user says it is; empty: nothing.
std::string pre_of(const Files& files, const std::string& asked, std::vector<std::string>& warnings) {
  const auto known = pre_tokenizer_name(files.tokenizer);
  const std::string file = files.name("tokenizer.json");
  if (asked.empty()) {
    if (known) return std::string(*known);
    user_error(
        "{}: pre_tokenizer: Lathe knows no name that llama.cpp has for it (known: those of GPT-2, GPT-4o, "
        "Llama "
        "3, Qwen2, SmolLM and Tekken); output.gguf_pre_tokenizer (convert: --pre-tokenizer) gives one: {}",
        file, quote_text(at(files.tokenizer, "pre_tokenizer").dump()));
  }
  if (known && *known == asked) return asked;
  warnings.push_back(fmt::format(
      "tokenizer.ggml.pre is {}, as was asked for{}: if llama.cpp cuts text otherwise by that name, or "
      "doesn't "
      "know it, ids differ or the file isn't loaded",
      quote_text(asked), known ? fmt::format(", where tokenizer.json says {}", *known) : std::string()));
  return asked;
}

TokenizerKeys byte_level(const Files& files, int64_t vocab_size, const std::string& pre_tokenizer) {
  TokenizerKeys result;
  const std::string file = files.name("tokenizer.json");
  const std::string pre = pre_of(files, pre_tokenizer, result.warnings);
  check_normalizer(files, result.warnings);
  Vocabulary vocabulary(file, vocab_size);
  fill_from_json(files, {}, vocabulary);
  add_added_tokens(files, vocabulary);
  std::vector<std::string> merges;
  for (auto& [left, right] : merges_of(files)) {
    replace_all(left, " ", "\xC4\xA0");
    replace_all(right, " ", "\xC4\xA0");
    merges.push_back(left + " " + right);
  }
  KeyWriter keys;
  keys.tokenizer("model", std::string("gpt2"));
  keys.tokenizer("pre", pre);
  add_vocabulary(vocabulary, false, keys);
  keys.tokenizer("merges", GgufArray(merges));
  add_specials(files, vocabulary, false, keys);
  add_chat_template(files, keys);
  result.keys = keys.take();
  return result;
}

/// Does a tokenizer.json put SentencePiece's space before a text?
bool prefixes_space(const json& tokenizer) {
  const std::string normalizer = at(tokenizer, "normalizer").dump();
  if (normalizer.find("\"Prepend\"") != std::string::npos) return true;
  const json& pre = at(tokenizer, "pre_tokenizer");
  if (text_of(at(pre, "type")) != "Metaspace") return false;
  const json& scheme = at(pre, "prepend_scheme");
  return scheme.is_string() ? scheme != "never" : at(pre, "add_prefix_space") != false;
}

TokenizerKeys sentencepiece(const Files& files, int64_t vocab_size, const std::string& pre_tokenizer) {
  if (!pre_tokenizer.empty()) {
    user_error(
        "{}: its tokenizer is SentencePiece's, which llama.cpp cuts no text for: leave out the pre-tokenizer "
        "{}",
        files.folder.string(), quote_text(pre_tokenizer));
  }
  TokenizerKeys result;
  const fs::path model_file = files.folder / "tokenizer.model";
  const bool has_model = present(model_file), has_json = !files.tokenizer.empty();
  Vocabulary vocabulary(has_model ? model_file.string() : files.name("tokenizer.json"), vocab_size);
  bool space = true;
  if (has_model) {
    const SentencePieceModel model = read_sentencepiece(model_file);
    fill_from_sentencepiece(model, model_file.string(), vocabulary);
    space = model.space_prefix;
  } else {
    fill_from_json(files, scores_by_merge(merges_of(files)), vocabulary);
  }
  if (has_json) space = prefixes_space(files.tokenizer);
  add_added_tokens(files, vocabulary);
  KeyWriter keys;
  keys.tokenizer("model", std::string("llama"));
  keys.tokenizer("pre", std::string("default"));
  add_vocabulary(vocabulary, true, keys);
  add_specials(files, vocabulary, true, keys);
  keys.tokenizer("add_space_prefix", truth(space));
  add_chat_template(files, keys);
  result.keys = keys.take();
  return result;
}

}  // namespace

TokenizerKeys tokenizer_keys(const fs::path& folder, int64_t vocab_size, const std::string& pre_tokenizer) {
  const Files files{folder, read_optional(folder / "tokenizer.json"),
                    read_optional(folder / "tokenizer_config.json"), read_optional(folder / "config.json")};
  const json& model = at(files.tokenizer, "model");
  if (files.tokenizer.empty()) {
    if (present(folder / "tokenizer.model")) return sentencepiece(files, vocab_size, pre_tokenizer);
    user_error(
        "{}: holds neither tokenizer.json nor tokenizer.model, which a GGUF file takes its tokens from",
        folder.string());
  }
  const std::string type = text_of(at(model, "type"));
  if (type != "BPE" && !(type.empty() && model.contains("merges"))) {
    user_error("{}: model.type: expected BPE, found {}: llama.cpp has no such tokenizer for these families",
               files.name("tokenizer.json"), quote_text(type));
  }
  if (at(model, "byte_fallback") == true) return sentencepiece(files, vocab_size, pre_tokenizer);
  return byte_level(files, vocab_size, pre_tokenizer);
}

}  // namespace lathe
