#include "calib/data/packing.h"

#include <algorithm>

namespace lathe {
namespace {

using Piece = TokenStream::Piece;

bool lacks_bos(const TokenStream& stream, const Piece& document, int64_t begin) {
  if (!stream.mark || stream.is_mark(begin)) return false;
  if (document.form == Document::Form::chat) return begin != document.begin;
  return document.form == Document::Form::text;
}

Cut pack(const TokenStream& stream, int64_t length) {
  Cut cut;
  const int64_t total = stream.size;
  auto document = stream.documents.begin();
  int64_t begin = 0;
  while (begin < total) {
    while (document->begin + document->length <= begin) ++document;
    const bool lacks = lacks_bos(stream, *document, begin);
    const int64_t own = length - (lacks ? 1 : 0);
    if (begin + own > total) break;
    cut.samples.push_back({document->source, begin, own, lacks});
    begin += own;
  }
  cut.unused_tokens = total - begin;
  return cut;
}

Cut by_document(const TokenStream& stream, int64_t length) {
  Cut cut;
  for (const Piece& document : stream.documents) {
    const bool lacks = document.length > 0 && lacks_bos(stream, document, document.begin);
    const int64_t most = length - (lacks ? 1 : 0);
    cut.samples.push_back({document.source, document.begin, std::min(document.length, most), lacks});
    if (document.length > most) cut.truncated.push_back(document.source);
  }
  return cut;
}

}  // namespace

Cut cut_samples(const TokenStream& stream, Packing packing, int64_t length) {
  return packing == Packing::pack ? pack(stream, length) : by_document(stream, length);
}

}  // namespace lathe
