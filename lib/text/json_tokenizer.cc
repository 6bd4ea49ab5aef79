#include "lib/text/json_tokenizer.h"

#include <unordered_map>

#include "lib/base/error.h"
#include "lib/base/strings.h"
#include "lib/text/byte_level.h"

namespace lathe::text {
namespace {

const nlohmann::json kNull;
const nlohmann::json kNoTokens = nlohmann::json::array();

/// The component at `key`; null where the key is missing.
JsonValue component(const JsonValue& json, const std::string& key) {
  return json.has(key) ? json.at(key) : JsonValue(kNull, json.where(), key);
}

JsonValue added_tokens_of(const JsonValue& json) {
  const JsonValue tokens = component(json, "added_tokens");
  return tokens.is_null() ? JsonValue(kNoTokens, json.where(), "added_tokens") : tokens;
}

const JsonValue& check_version(const JsonValue& json) {
  if (!json.raw().is_object()) json.expected("an object");
  const std::string version = json.text_or_empty("version");
  if (!version.empty() && version != "1.0") json.at("version").expected("\"1.0\"");
  return json;
}

}  // namespace

JsonTokenizer::JsonTokenizer(const JsonValue& json)
    : model_(check_version(json).at("model")),
      normalizer_(make_normalizer(component(json, "normalizer"))),
      pre_tokenizer_(make_pre_tokenizer(component(json, "pre_tokenizer"))),
      post_processor_(component(json, "post_processor")),
      added_tokens_(added_tokens_of(json), model_, normalizer_.get()) {}

int64_t JsonTokenizer::vocab_size() const {
  return static_cast<int64_t>(model_.size() + added_tokens_.new_tokens());
}

uint64_t JsonTokenizer::copies_of_text() const {
  constexpr uint64_t kNormalized = 6;  // the copy that goes in; what comes out, of 3 bytes for each blank,
                                       // while its string grows from two thirds of that
  constexpr uint64_t kWhole = 24;      // 8 bytes an id, while the list grows
  return (normalizer_ != nullptr ? kNormalized : 0) + (post_processor_.around(true) ? 0 : kWhole);
}

bool JsonTokenizer::byte_level() const {
  return model_.find(byte_level_encode(" ")) && model_.find(byte_level_encode("\n"));
}

std::vector<std::string> JsonTokenizer::texts_of(std::span<const int64_t> ids) const {
  const bool bytes = byte_level();
  std::unordered_map<int64_t, std::string> texts;
  for (const int64_t id : ids) texts.emplace(id, "");
  for (const auto& [entry, id] : model_.vocabulary()) {
    const auto wanted = texts.find(id);
    if (wanted != texts.end()) wanted->second = bytes ? byte_level_decode(entry) : sentencepiece_text(entry);
  }
  for (auto& [id, text] : texts)
    if (const auto added = added_tokens_.text_of(id)) text = *added;
  std::vector<std::string> all;
  for (const int64_t id : ids) all.push_back(texts.at(id));
  return all;
}

std::vector<std::string> JsonTokenizer::pieces() const {
  const bool bytes = byte_level();
  std::vector<std::string> pieces;
  for (const auto& [entry, id] : model_.vocabulary()) {
    const std::string piece = bytes ? byte_level_decode(entry) : entry;
    if (!invalid_utf8_offset(piece)) pieces.push_back(piece);
  }
  return pieces;
}

void JsonTokenizer::Output::flush(size_t least) {
  if (sink == nullptr || ids.size() < least) return;
  (*sink)(ids);
  ids.clear();
}

std::vector<int64_t> JsonTokenizer::encode(std::string_view text, bool add_special_tokens) const {
  Output output;
  encode_text(text, output);
  return post_processor_.apply(std::move(output.ids), add_special_tokens);
}

void JsonTokenizer::encode_in_blocks(std::string_view text, bool add_special_tokens,
                                     const IdSink& sink) const {
  const auto around = post_processor_.around(add_special_tokens);
  if (!around) return sink(encode(text, add_special_tokens));
  Output output{around->before, &sink};
  encode_text(text, output);
  output.ids.insert(output.ids.end(), around->after.begin(), around->after.end());
  output.flush(0);
}

void JsonTokenizer::encode_text(std::string_view text, Output& output) const {
  if (const auto offset = invalid_utf8_offset(text)) {
    user_error("the text is not UTF-8: byte {} (0x{:02X}) is out of place; convert the text to UTF-8 first",
               *offset, static_cast<unsigned char>(text[*offset]));
  }
  for (const auto& part : added_tokens_.split(text, false)) {
    if (part.id >= 0) {
      output.ids.push_back(part.id);
    } else {
      encode_stretch(part.text, part.text.data() == text.data(), output);
    }
  }
}

void JsonTokenizer::encode_stretch(std::string_view text, bool at_start, Output& output) const {
  std::string normalized;
  if (normalizer_ != nullptr) {
    normalized = normalizer_->normalize(std::string(text), at_start);
    text = normalized;
  }
  const auto take = [&](Piece piece) { encode_piece(piece.text, output); };
  for (const auto& part : added_tokens_.split(text, true)) {
    if (part.id >= 0) {
      output.ids.push_back(part.id);
      continue;
    }
    const Piece piece{part.text, at_start && part.text.data() == text.data()};
    if (pre_tokenizer_ != nullptr) {
      pre_tokenizer_->split(piece, PieceSink(take));
    } else {
      take(piece);
    }
  }
}

void JsonTokenizer::encode_piece(std::string_view piece, Output& output) const {
  constexpr size_t kBlock = size_t{1} << 14;
  while (!piece.empty()) {
    const std::string_view part = model_.independent_start(piece);
    model_.encode(part, output.ids);
    output.flush(kBlock);
    piece.remove_prefix(part.size());
  }
}

}  // namespace lathe::text
