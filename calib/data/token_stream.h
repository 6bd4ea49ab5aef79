// Documents as token ids, one after the other.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "calib/data/document_census.h"
#include "calib/data/documents.h"
#include "lib/text/tokenizer.h"

namespace lathe {

/// What turns documents into ids.
struct Encoder {
  const Tokenizer* tokenizer = nullptr;
  const text::ChatTemplates* templates = nullptr;  // null: conversations are refused
  int64_t vocab_size = 0;                          // of the model; 0: ids are only checked for their sign
  bool special_tokens = false;                     // around each text, as the post-processor says
  int64_t min_tokens = 1;                          // shorter documents are dropped
};

struct TokenStream {
  struct Piece {
    size_t source;  // its number, as given to append()
    int64_t begin, length;
    Document::Form form = Document::Form::text;  // what it was made of
  };
  std::vector<int64_t> ids;      // of all documents that are kept
  std::vector<float> weights;    // of each id; empty: all count once
  std::vector<Piece> documents;  // where each of them lies
};

struct StreamCounts {
  int64_t documents = 0;  // that the file holds
  int64_t dropped = 0;    // of these, shorter than min_tokens
  int64_t tokens = 0;     // of those kept
  /// Ids in each document of a file of ids where all have as many and there are two or more: it looks like a
  /// table of samples that were cut before. Else 0.
  int64_t row_length = 0;
};

/// Appends the source's documents to `stream`; `census` (may be null) sees those kept. Looks for
/// cancellation. UserError as for_each_document(), and for an id that is negative or beyond vocab_size: it
/// would index past the embedding.
StreamCounts append(const DataSource& source, size_t number, const Encoder& encoder, TokenStream& stream,
                    DocumentCensus* census);

}  // namespace lathe
