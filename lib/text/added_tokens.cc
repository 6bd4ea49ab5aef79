#include "lib/text/added_tokens.h"

#include <algorithm>

#include "lib/base/error.h"
#include "lib/text/unicode.h"

namespace lathe::text {

uint32_t LiteralSearch::child(uint32_t node, unsigned char byte) const {
  const auto& children = nodes_[node].children;
  const auto found = std::lower_bound(children.begin(), children.end(), std::pair(byte, uint32_t{0}));
  return found != children.end() && found->first == byte ? found->second : 0;
}

bool LiteralSearch::add(std::string_view text, int32_t value) {
  uint32_t node = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    uint32_t next = child(node, byte);
    if (next == 0) {
      next = static_cast<uint32_t>(nodes_.size());
      auto& children = nodes_[node].children;
      children.insert(std::lower_bound(children.begin(), children.end(), std::pair(byte, uint32_t{0})),
                      {byte, next});
      nodes_.emplace_back();
    }
    node = next;
  }
  if (node == 0 || nodes_[node].value >= 0) return false;
  nodes_[node].value = value;
  return true;
}

LiteralSearch::Match LiteralSearch::find(std::string_view text, size_t from) const {
  for (size_t begin = from; begin < text.size(); ++begin) {
    Match best{begin, begin, -1};
    uint32_t node = 0;
    for (size_t at = begin; at < text.size(); ++at) {
      node = child(node, static_cast<unsigned char>(text[at]));
      if (node == 0) break;
      if (nodes_[node].value >= 0) best = {begin, at + 1, nodes_[node].value};
    }
    if (best.value >= 0) return best;
  }
  return {text.size(), text.size(), -1};
}

AddedTokens::AddedTokens(const JsonValue& json, const Bpe& model, const Normalizer* normalizer) {
  read(json, model);
  index(json, normalizer);
}

void AddedTokens::read(const JsonValue& json, const Bpe& model) {
  std::unordered_map<std::string, size_t> places;
  int64_t next_id = static_cast<int64_t>(model.size());
  for (const JsonValue& entry : json.items()) {
    Token token;
    token.content = entry.at("content").text();
    token.id = entry.at("id").id();
    token.single_word = entry.at("single_word").boolean();
    token.left_strip = entry.at("lstrip").boolean();
    token.right_strip = entry.at("rstrip").boolean();
    token.normalized = entry.at("normalized").boolean();
    entry.at("special").boolean();  // matters to decoders only
    if (token.content.empty()) continue;
    const auto place = places.find(token.content);
    const auto in_model = model.find(token.content);
    const int64_t id = place != places.end() ? tokens_[place->second].id : in_model ? *in_model : next_id;
    if (token.id != id) {
      entry.at("id").expected(
          fmt::format("{}, the id that the tokenizers library gives \"{}\"", id, token.content));
    }
    if (place != places.end()) {
      tokens_[place->second] = token;  // stated twice: the later one counts
      continue;
    }
    if (!in_model) {
      ++next_id;
      ++new_tokens_;
    }
    places.emplace(token.content, tokens_.size());
    tokens_.push_back(token);
  }
}

void AddedTokens::index(const JsonValue& json, const Normalizer* normalizer) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const Token& token = tokens_[i];
    const bool changed = token.normalized && normalizer != nullptr;
    bool at_start = true;  // asked of texts only
    const std::string text = changed ? normalizer->normalize(token.content, at_start) : token.content;
    if (!(token.normalized ? normalized_ : raw_).add(text, static_cast<int32_t>(i))) {
      user_error("{}: token \"{}\" becomes \"{}\" once normalised, which is {}; expected a text of its own",
                 json.where(), token.content, text, text.empty() ? "empty" : "another token's text");
    }
  }
}

// `tokenizers`' find_matches, step by step: the search goes on behind the token itself, not behind the white
// space that rstrip took, and lstrip takes no more than what the part before has left.
std::vector<AddedTokens::Part> AddedTokens::split(std::string_view text, bool normalized) const {
  const LiteralSearch& search = normalized ? normalized_ : raw_;
  std::vector<Part> parts;
  size_t done = 0;
  size_t space_begin = 0;  // [space_begin, space_end) is known to be white space that ends at space_end
  size_t space_end = 0;
  const size_t last = search.empty() ? text.size() : 0;
  for (auto match = search.find(text, last); match.value >= 0; match = search.find(text, match.end)) {
    const Token& token = tokens_[static_cast<size_t>(match.value)];
    if (match.begin < done) continue;  // white space that rstrip took; `tokenizers` panics here
    size_t begin = match.begin;
    size_t end = match.end;
    if (token.single_word) {
      const bool joined_before = begin > 0 && is_word(decode_char(text, previous_char(text, begin)));
      if (joined_before || (end < text.size() && is_word(decode_char(text, end)))) continue;
    }
    if (token.left_strip) {
      while (begin > done && is_whitespace(decode_char(text, previous_char(text, begin)))) {
        begin = previous_char(text, begin);
      }
    }
    if (token.right_strip) {
      if (end < space_begin || end > space_end) {
        space_begin = space_end = end;
        while (space_end < text.size() && is_whitespace(decode_char(text, space_end))) {
          space_end += char_length(text, space_end);
        }
      }
      end = space_end;
    }
    if (done < begin) parts.push_back({text.substr(done, begin - done), -1});
    parts.push_back({text.substr(begin, end - begin), token.id});
    done = end;
  }
  if (done < text.size()) parts.push_back({text.substr(done), -1});
  return parts;
}

std::optional<std::string> AddedTokens::text_of(int64_t id) const {
  for (const Token& token : tokens_)
    if (token.id == id) return token.content;
  return std::nullopt;
}

}  // namespace lathe::text
