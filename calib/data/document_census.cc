#include "calib/data/document_census.h"

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
    text::add_scripts(first_bytes(document.text, kScriptBytes), scripts_);
    const std::string folded = text::fold_for_comparison(document.text);
    hash = content_hash(std::as_bytes(std::span(folded)));
  }
  if (!seen_.insert(std::move(hash)).second) ++repeated_;
}

}  // namespace lathe
