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
  uint64_t max_ram = 0;  // bytes that this process may take; looked at before and while reading; 0: any
};

/// The ids of documents, one after the other. All are counted; where `most_ids` or `most_documents` is set,
/// only those at the start are kept, so that memory follows what is used of a file and not its size. Where
/// those that are used lie anywhere, and all of them are too many (`most_bytes`), none is kept, and the data
/// is read again for the ranges that are used (`only`).
struct TokenStream {
  struct Range {
    int64_t begin, end;
  };
  struct Piece {
    size_t source;  // its number, as given to append()
    int64_t begin, length;
    Document::Form form = Document::Form::text;  // what it was made of
  };
  int64_t most_ids = std::numeric_limits<int64_t>::max();        // that are kept
  int64_t most_documents = std::numeric_limits<int64_t>::max();  // whose ids are kept
  uint64_t most_bytes = std::numeric_limits<uint64_t>::max();    // of ids and weights, or none is kept
  std::vector<Range> only;      // ascending; empty: any. Those that are kept stand in `ids` without gaps
  std::optional<int64_t> mark;  // an id whose every place is known

  int64_t size = 0;              // ids of all documents
  bool let_go = false;           // the ids were too many: `ids` and `weights` are empty
  std::deque<int32_t> ids;       // the first of them; a deque, since it grows without a copy
  bool weighted = false;         // some tokens have weights
  std::deque<float> weights;     // of each id kept, where they have
  std::vector<Piece> documents;  // where each of them lies
  std::vector<int64_t> marks;    // ascending places of `mark` that are not in `ids`; not with `only`

  /// Whether the id at `place`, below `size`, is `mark`.
  bool is_mark(int64_t place) const;
};

struct StreamCounts {
  int64_t documents = 0;  // that the file holds
  int64_t dropped = 0;    // of these, shorter than min_tokens
  int64_t absent = 0;     // of these, without a value: null or without the field
  int64_t tokens = 0;     // of those kept
  double read = 1;        // the part of the file that these are of
  /// Ids in each document of a file of ids where all have as many and there are two or more: it looks like a
  /// table of samples that were cut before. Else 0.
  int64_t row_length = 0;
};

/// Appends the source's documents to `stream`; `looks` (may be null) sees the first of them, whose ids are,
/// or might be, used: as TokenStream::documents, where it saw all sources. Looks for cancellation. UserError
/// as for_each_document(), for an id that is negative or beyond vocab_size (it would index past the
/// embedding), and as ReadingLimit (reading_limit.h) for encoder.max_ram.
StreamCounts append(const DataSource& source, size_t number, const Encoder& encoder, TokenStream& stream,
                    DocumentLooks* looks);

}  // namespace lathe
