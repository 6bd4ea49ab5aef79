// Calibration and evaluation text as rows of token ids.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "lib/text/tokenizer.h"

namespace lathe {

struct DataSource {
  std::filesystem::path path;  // .txt or .jsonl
  std::string field = "text";  // of a JSONL object
};

struct RowCounts {
  int64_t documents = 0, tokens = 0, rows = 0, unused_tokens = 0;
};

/// Tokenises each file (a .txt is one document; each non-blank line of a .jsonl is one), joins the ids of all
/// documents in order, without special tokens between them, and cuts them into rows of `length` >= 1. Tokens
/// after the last full row are dropped and counted. Long [rows, length]; `rows` may be 0 (see sample_rows).
///
/// `vocab_size` is the model's: an id beyond it is refused before it can index past the embedding. 0: no
/// check. UserError for a file name that is neither .txt nor .jsonl, a missing or empty file, invalid UTF-8
/// (with its line and offset), a JSONL line that does not parse or lacks the field (with its number), data
/// without a single token.
at::Tensor token_rows(const std::vector<DataSource>& sources, const Tokenizer& tokenizer, int64_t length,
                      RowCounts& counts, int64_t vocab_size = 0);

/// Takes `samples` >= 1 of the rows [rows, length]. Seed 0 takes the first ones, so that a run is comparable
/// with tools that read a text from its start. Any other seed draws without replacement, always the same rows
/// for the same arguments on every machine, and keeps them in the order of the file. Long [samples, length].
/// UserError that says how many rows and tokens are lacking where there are too few.
at::Tensor sample_rows(const at::Tensor& rows, int64_t samples, uint64_t seed);

/// "xxh3-128:" and 32 hex digits over the ids (Long, any shape) as little-endian int64 in row-major order:
/// what `xxhsum -H2` prints for the same bytes. Two runs with equal hashes were calibrated on the same
/// tokens.
std::string ids_hash(const at::Tensor& ids);

}  // namespace lathe
