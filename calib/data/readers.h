// One reader for each kind of data file, and what it takes; documents.cc and reading_limit.cc choose. Errors
// are described there.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "calib/data/documents.h"
#include "lib/text/tokenizer.h"

namespace lathe {

/// These keep to DataSource::head, and return the part of the file that was read.
double read_text(const DataSource& source, const DocumentVisit& visit);
double read_json_lines(const DataSource& source, const text::ChatTemplates* templates,
                       const DocumentVisit& visit);
double read_parquet(const DataSource& source, const text::ChatTemplates* templates,
                    const DocumentVisit& visit);
/// Token ids, as a whole: nothing is made of them.
void read_npy(const DataSource& source, const DocumentVisit& visit);
void read_safetensors(const DataSource& source, const DocumentVisit& visit);

/// Bytes that reading a file and encoding what it holds add to the process at a time, beside the ids that are
/// kept: `least` surely, `most` at most. They differ where it depends on what a header doesn't say.
struct ReadingNeed {
  uint64_t least = 0, most = 0;
  uint64_t ids = 0;    // that the file gives at most: a byte of text is one at worst
  std::string what;    // "its text of 30 MiB, which is read as one document"
  std::string remedy;  // what to do where that is too much: "split it ..."
};
ReadingNeed need_of_text(const DataSource& source, const Tokenizer& tokenizer);
ReadingNeed need_of_json_lines(const DataSource& source, const Tokenizer& tokenizer);
ReadingNeed need_of_parquet(const DataSource& source, const Tokenizer& tokenizer);
ReadingNeed need_of_npy(const DataSource& source);
ReadingNeed need_of_safetensors(const DataSource& source);

/// Bytes of a mapped file after which the pages before are let go (MappedFile::release), so that `size` bytes
/// that are read once take no more than mapped_while_read(size).
inline constexpr size_t kReadPiece = size_t{4} << 20;
inline uint64_t mapped_while_read(uint64_t size) { return std::min<uint64_t>(size, 2 * kReadPiece); }

/// What counting and encoding a document of so many bytes takes at most, beside the text: a piece without a
/// split in the tokenizer, and the start that DocumentLooks compares; both are bounded, and small where the
/// document is.
inline uint64_t encoding_need(const Tokenizer& tokenizer, uint64_t text) {
  return std::min<uint64_t>(16 * text, uint64_t{16} << 20) + tokenizer.copies_of_text() * text;
}

}  // namespace lathe
