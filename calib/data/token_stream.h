// Documents as token ids, one after the other.
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <optional>
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
  uint64_t max_ram = 0;  // bytes that this process may take; looked at while reading; 0: any
};

/// The ids of documents, one after the other. All are counted; where `most_ids` or `most_documents` is set,
/// only those at the start are kept, so that memory follows what is used of a file and not its size.
struct TokenStream {
  struct Piece {
    size_t source;  // its number, as given to append()
    int64_t begin, length;
    Document::Form form = Document::Form::text;  // what it was made of
  };
  int64_t most_ids = std::numeric_limits<int64_t>::max();        // that are kept
  int64_t most_documents = std::numeric_limits<int64_t>::max();  // whose ids are kept
  std::optional<int64_t> mark;                                   // an id whose every place is known

  int64_t size = 0;              // ids of all documents
  std::deque<int32_t> ids;       // the first of them; a deque, since it grows without a copy
  std::deque<float> weights;     // of each id kept; empty: all count once
  std::vector<Piece> documents;  // where each of them lies
  std::vector<int64_t> marks;    // ascending places of `mark` behind those kept

  /// Whether the id at `place`, below `size`, is `mark`.
  bool is_mark(int64_t place) const;
};

struct StreamCounts {
  int64_t documents = 0;  // that the file holds
  int64_t dropped = 0;    // of these, shorter than min_tokens
  int64_t absent = 0;     // of these, without a value: null or without the field
  int64_t tokens = 0;     // of those kept
  /// Ids in each document of a file of ids where all have as many and there are two or more: it looks like a
  /// table of samples that were cut before. Else 0.
  int64_t row_length = 0;
};

/// Appends the source's documents to `stream`; `census` (may be null) sees those whose ids are
/// kept. Looks for
/// cancellation. UserError as for_each_document(), for an id that is negative or beyond vocab_size (it would
/// index past the embedding), and where this source took the process over encoder.max_ram.
StreamCounts append(const DataSource& source, size_t number, const Encoder& encoder, TokenStream& stream,
                    DocumentCensus* census);

}  // namespace lathe
