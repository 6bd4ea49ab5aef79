#include "calib/data/document_census.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/hash.h"

namespace lathe {
namespace {

std::string_view first_bytes(std::string_view text, size_t limit) {
  if (text.size() <= limit) return text;
  while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xC0) == 0x80) --limit;  // whole characters
  return text.substr(0, limit);
}

}  // namespace

void DocumentCensus::observe(const Document& document, int64_t tokens) {
  ++documents_;
  longest_ = std::max(longest_, tokens);
  std::string hash;
  if (document.form == Document::Form::ids) {
    hash = content_hash(std::as_bytes(document.ids));
  } else {
    text_bytes_ += static_cast<int64_t>(document.text.size());
    text_tokens_ += tokens;
    const std::string_view start = first_bytes(document.text, kLookedAt);
    text::add_scripts(start, scripts_);
    std::string folded = text::fold_for_comparison(start);
    if (start.size() < document.text.size()) folded += fmt::format(" {}", document.text.size());
    hash = content_hash(std::as_bytes(std::span(folded)));
  }
  if (!seen_.insert(std::move(hash)).second) ++repeated_;
}

double DocumentCensus::bytes_per_token() const {
  return text_tokens_ == 0 ? 0 : static_cast<double>(text_bytes_) / static_cast<double>(text_tokens_);
}

}  // namespace lathe
