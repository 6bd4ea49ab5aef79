// Text as full rows of token ids, for evaluation.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "calib/data/token_stream.h"

namespace lathe {

struct RowCounts {
  int64_t documents = 0, tokens = 0, rows = 0, unused_tokens = 0;
  double read = 1;  // the part of the sources that these are of (DataSource::head)
};

/// Joins the ids of all documents of all sources in order and cuts them into rows of `length` >= 1. Tokens
/// after the last full row are dropped and counted. Long [rows, length], the first `most` rows where that is
/// not 0 (`counts` are of all); there may be none. UserError as
/// append() in token_stream.h, and for data without a single token.
at::Tensor token_rows(const std::vector<DataSource>& sources, const Encoder& encoder, int64_t length,
                      RowCounts& counts, int64_t most = 0);

}  // namespace lathe
