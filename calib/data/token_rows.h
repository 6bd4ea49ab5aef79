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
  std::filesystem::path path;   // .txt or .jsonl
  std::string field = "text";   // of a JSONL object
};

struct RowCounts {
  int64_t documents = 0, tokens = 0, rows = 0, unused_tokens = 0;
};

/// Tokenises each file (a .txt is one document; each line of a .jsonl is one), joins the ids of all documents in order and
/// cuts them into rows of `length`. Tokens after the last full row are dropped and counted.
/// Long [rows, length]. UserError for a missing or empty file, invalid UTF-8 (with its offset), a JSONL line that does not
/// parse or lacks the field (with its number).
at::Tensor token_rows(const std::vector<DataSource>& sources, const Tokenizer& tokenizer, int64_t length,
                      RowCounts& counts);

/// Takes `samples` rows: the first ones where seed is 0... UserError that says how many more are needed where too few.
at::Tensor sample_rows(const at::Tensor& rows, int64_t samples, uint64_t seed, int64_t length);

}  // namespace lathe
