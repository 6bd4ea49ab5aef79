#include "calib/data/token_rows.h"

#include <ATen/ATen.h>

#include "lib/base/error.h"

namespace lathe {

at::Tensor token_rows(const std::vector<DataSource>& sources, const Encoder& encoder, int64_t length,
                      RowCounts& counts) {
  LATHE_ASSERT(length >= 1, "rows of {} tokens", length);
  if (sources.empty()) user_error("no text to read; name at least one file");
  for (const DataSource& source : sources) kind_of(source);  // a bad name is known before anything is read
  counts = {};
  TokenStream stream;
  for (size_t i = 0; i < sources.size(); ++i)
    counts.documents += append(sources[i], i, encoder, stream, nullptr).documents;
  if (stream.ids.empty())
    user_error("{}: the text gives no tokens; expected text", sources.front().path.string());
  counts.tokens = static_cast<int64_t>(stream.ids.size());
  counts.rows = counts.tokens / length;
  counts.unused_tokens = counts.tokens % length;
  return at::from_blob(stream.ids.data(), {counts.rows, length}, at::kLong).clone();
}

}  // namespace lathe
