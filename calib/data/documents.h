// The documents of a data file, one after the other, whatever its kind.
//
//   .txt          the whole file is one text
//   .jsonl        a line is one document: the chosen field of an object, or a bare list of ids
//   .parquet      a row of the chosen column is one document
//   .npy          token ids: a 1-D array is one document, a row of a 2-D array is one
//   .safetensors  the same for a tensor; a tensor "lengths" beside it says how many ids of each row count
//
// A field or cell is text, a conversation (a list of messages with roles) or a list of token ids; its value
// decides. A field or column "tools" beside a conversation is its tools. A field, column or tensor
// "attention_mask" beside token ids cuts their padding off (attention_mask.h). "token_weights" beside them
// says how often each of them, padding included, counts in Hessians and mean squares; 0: it is context for
// those behind it, and counts in no statistic. A tensor of it is F32 of the ids' shape; that of a.npy is the
// array a.weights.npy, F32 or FP64. A byte order mark at the start of .txt and .jsonl is skipped.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "calib/data/data_source.h"
#include "lib/text/chat_template.h"

namespace lathe {

struct Document {
  /// chat: text that a chat template wrote, its special tokens included. absent: the document has no value,
  /// its field being null or missing.
  enum class Form { text, chat, ids, absent };
  Form form = Form::text;
  std::string_view text;                // valid during the call only
  std::span<const int64_t> ids;         // likewise
  const std::string& place;             // names it in errors: "a.jsonl:12", "a.parquet: row 3"
  std::span<const float> weights = {};  // of each id; empty: each counts once
};
using DocumentVisit = std::function<void(const Document&)>;

/// Calls `visit` for each document in the file's order, or of its head (DataSource::head), where the last one
/// may be cut. Returns the part of the file that was read: 1 for all of it. `templates` may be null or empty
/// where the model has no chat template; conversations are refused then.
///
/// UserError for a file that is missing, empty or malformed, text that is not UTF-8, a line, row or tensor of
/// another form than the above, and a field that is missing (listing those that exist) or null in all
/// documents; one that is so in some makes these `absent`. Token ids are not compared with a vocabulary here.
double for_each_document(const DataSource& source, const text::ChatTemplates* templates,
                         const DocumentVisit& visit);

/// Whether the source is a .safetensors file whose rows are samples of their own: it has a tensor "lengths",
/// as --dump-ids writes it. UserError for a malformed file.
bool has_row_lengths(const DataSource& source);

}  // namespace lathe
