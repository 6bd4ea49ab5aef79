#include "calib/data/packing.h"

#include <algorithm>

namespace lathe {
namespace {

Cut pack(const TokenStream& stream, int64_t length) {
  Cut cut;
  const auto total = static_cast<int64_t>(stream.ids.size());
  auto document = stream.documents.begin();
  for (int64_t begin = 0; begin + length <= total; begin += length) {
    while (document->begin + document->length <= begin) ++document;
    cut.samples.push_back({document->source, begin, length});
  }
  cut.unused_tokens = total % length;
  return cut;
}

Cut by_document(const TokenStream& stream, int64_t length) {
  Cut cut;
  for (const TokenStream::Piece& document : stream.documents) {
    cut.samples.push_back({document.source, document.begin, std::min(document.length, length)});
    if (document.length > length) cut.truncated.push_back(document.source);
  }
  return cut;
}

}  // namespace

Cut cut_samples(const TokenStream& stream, Packing packing, int64_t length) {
  return packing == Packing::pack ? pack(stream, length) : by_document(stream, length);
}

}  // namespace lathe
