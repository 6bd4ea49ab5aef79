#include "calib/data/document_census.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/strings.h"

namespace lathe {
namespace {

std::string_view first_bytes(std::string_view text, size_t limit) {
  if (text.size() <= limit) return text;
  while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xC0) == 0x80) --limit;  // whole characters
  return text.substr(0, limit);
}

ContentHasher::Digest digest_of(std::span<const std::byte> bytes) {
  ContentHasher hasher;
  hasher.add(bytes);
  return hasher.digest();
}

/// Without what is no UTF-8: bytes of characters that were cut, and of ids that never stand so in a text.
std::string characters_of(std::string_view text) {
  std::string whole;
  while (const auto bad = invalid_utf8_offset(text)) {
    whole += text.substr(0, *bad);
    text.remove_prefix(*bad + 1);
  }
  return whole.append(text);
}

bool is_control(std::string_view token) {
  return token.size() > 2 && token.front() == '<' && token.back() == '>';
}

}  // namespace

uint32_t DocumentLooks::number_of(const std::string& name) {
  const auto found = std::ranges::find(names_, name);
  if (found == names_.end()) {
    names_.push_back(name);
    return static_cast<uint32_t>(names_.size() - 1);
  }
  return static_cast<uint32_t>(found - names_.begin());
}

void DocumentLooks::append(const std::map<std::string, int64_t>& counts, std::deque<Share>& shares) {
  for (const auto& [name, count] : counts) shares.push_back({number_of(name), static_cast<uint32_t>(count)});
}

void DocumentLooks::add(const std::deque<Share>& shares, size_t begin, size_t end,
                        std::map<std::string, int64_t>& counts) const {
  for (size_t i = begin; i < end; ++i) counts[names_[shares[i].name]] += shares[i].count;
}

void DocumentLooks::observe(const Document& document, int64_t tokens) {
  if (document.form == Document::Form::ids) {
    looks_.push_back({digest_of(std::as_bytes(document.ids)), tokens, 0, scripts_.size(), languages_.size()});
    return;
  }
  const std::string_view start = first_bytes(document.text, kLookedAt);
  text::ScriptCounts scripts;
  text::add_scripts(start, scripts);
  append(scripts, scripts_);
  text::LanguageCounts languages;
  text::add_languages(start, languages);
  append(languages, languages_);
  std::string folded = text::fold_for_comparison(start);
  if (start.size() < document.text.size()) folded += fmt::format(" {}", document.text.size());
  looks_.push_back({digest_of(std::as_bytes(std::span(folded))), tokens,
                    static_cast<int64_t>(document.text.size()), scripts_.size(), languages_.size()});
}

void DocumentCensus::add(const DocumentLooks& looks, size_t index) {
  const DocumentLooks::Look& look = looks.looks_.at(index);
  ++documents_;
  longest_ = std::max(longest_, look.tokens);
  if (look.tokens <= kShort) ++very_short_;
  if (!seen_.insert(look.hash).second) ++repeated_;
  if (look.text_bytes == 0) return;
  text_bytes_ += look.text_bytes;
  text_tokens_ += look.tokens;
  const DocumentLooks::Look* const before = index == 0 ? nullptr : &looks.looks_[index - 1];
  looks.add(looks.scripts_, before ? before->scripts_end : 0, look.scripts_end, scripts_);
  looks.add(looks.languages_, before ? before->languages_end : 0, look.languages_end, languages_);
}

void DocumentCensus::add_ids(std::span<const int64_t> ids, const Tokenizer& tokenizer) {
  std::string text;
  for (const std::string& token : tokenizer.texts_of(ids)) {
    if (is_control(token)) continue;
    text += token;
    ++text_tokens_;
  }
  text_bytes_ += static_cast<int64_t>(text.size());
  const std::string characters = characters_of(text);
  text::add_scripts(characters, scripts_);
  text::add_languages(characters, languages_);
}

double DocumentCensus::bytes_per_token() const {
  return text_tokens_ == 0 ? 0 : static_cast<double>(text_bytes_) / static_cast<double>(text_tokens_);
}

}  // namespace lathe
