// Cutting a stream of documents into samples.
#pragma once

#include <vector>

#include "calib/data/calibration_set.h"
#include "calib/data/token_stream.h"

namespace lathe {

struct Cut {
  std::vector<TokenStream::Piece> samples;  // in order; each belongs to the source of its first token
  std::vector<size_t> truncated;            // the source of each document that was cut off, once a document
  int64_t unused_tokens = 0;                // pack: after the last full sample
};

/// Samples of `length` tokens (document: at most).
Cut cut_samples(const TokenStream& stream, Packing packing, int64_t length);

}  // namespace lathe
