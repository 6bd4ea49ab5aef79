#include "calib/data/packing.h"

#include <algorithm>

namespace lathe {
namespace {

using Piece = TokenStream::Piece;

bool lacks_bos(const TokenStream& stream, const Piece& document, int64_t begin, std::optional<int64_t> bos) {
  if (!bos || stream.ids[static_cast<size_t>(begin)] == *bos) return false;
  if (document.form == Document::Form::chat) return begin != document.begin;
  return document.form == Document::Form::text;
}

Cut pack(const TokenStream& stream, int64_t length, std::optional<int64_t> bos) {
  Cut cut;
  const auto total = static_cast<int64_t>(stream.ids.size());
  auto document = stream.documents.begin();
  int64_t begin = 0;
  while (begin < total) {
    while (document->begin + document->length <= begin) ++document;
    const bool lacks = lacks_bos(stream, *document, begin, bos);
    const int64_t own = length - (lacks ? 1 : 0);
    if (begin + own > total) break;
    cut.samples.push_back({document->source, begin, own, lacks});
    begin += own;
  }
  cut.unused_tokens = total - begin;
  return cut;
}

Cut by_document(const TokenStream& stream, int64_t length, std::optional<int64_t> bos) {
  Cut cut;
  for (const Piece& document : stream.documents) {
    const bool lacks = document.length > 0 && lacks_bos(stream, document, document.begin, bos);
    const int64_t most = length - (lacks ? 1 : 0);
    cut.samples.push_back({document.source, document.begin, std::min(document.length, most), lacks});
    if (document.length > most) cut.truncated.push_back(document.source);
  }
  return cut;
}

}  // namespace

Cut cut_samples(const TokenStream& stream, Packing packing, int64_t length, std::optional<int64_t> bos) {
  return packing == Packing::pack ? pack(stream, length, bos) : by_document(stream, length, bos);
}

}  // namespace lathe
