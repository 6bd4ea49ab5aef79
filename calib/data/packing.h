// Cutting a stream of documents into samples.
#pragma once

#include <vector>

#include "calib/data/calibration_set.h"
#include "calib/data/token_stream.h"

namespace lathe {

struct Cut {
  struct Sample {
    size_t source;          // that of its first token
    int64_t begin, length;  // in the stream's ids
    bool bos;               // BOS goes in front of these
    int64_t tokens() const { return length + (bos ? 1 : 0); }
  };
  std::vector<Sample> samples;    // in order
  std::vector<size_t> truncated;  // the source of each document that was cut off, once a document
  int64_t unused_tokens = 0;      // pack: after the last full sample
};

/// Samples of `length` tokens (document: at most), BOS included where they get one: where it is given, as the
/// stream's mark, and what begins the sample is neither BOS itself, nor an id of a file of ids, nor the
/// beginning of a conversation, whose template says what stands there.
Cut cut_samples(const TokenStream& stream, Packing packing, int64_t length);

}  // namespace lathe
