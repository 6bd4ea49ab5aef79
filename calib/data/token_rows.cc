#include "calib/data/token_rows.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "calib/data/reading_limit.h"
#include "lib/base/checked.h"
#include "lib/base/error.h"

namespace lathe {

at::Tensor token_rows(const std::vector<DataSource>& sources, const Encoder& encoder, int64_t length,
                      RowCounts& counts, int64_t most) {
  LATHE_ASSERT(length >= 1 && most >= 0, "{} rows of {} tokens", most, length);
  const auto ids = checked_mul(static_cast<uint64_t>(most), static_cast<uint64_t>(length));
  const auto bytes = ids ? checked_mul(*ids, sizeof(int32_t) + sizeof(int64_t)) : ids;
  LATHE_ASSERT(bytes, "{} rows of {} tokens", most, length);
  if (sources.empty()) user_error("no text to read; name at least one file");
  for (const DataSource& source : sources) kind_of(source);  // a bad name is known before anything is read
  counts = {};
  check_reading(sources, encoder, *bytes);
  TokenStream stream;
  if (most > 0) stream.most_ids = static_cast<int64_t>(*ids);
  for (size_t i = 0; i < sources.size(); ++i) {
    const StreamCounts read = append(sources[i], i, encoder, stream, nullptr);
    counts.documents += read.documents;
    counts.read += (read.read - 1) / static_cast<double>(sources.size());
  }
  if (stream.size == 0 && counts.read == 1)
    user_error("{}: the text gives no tokens; expected text", sources.front().path.string());
  counts.tokens = stream.size;
  counts.rows = counts.tokens / length;
  counts.unused_tokens = counts.tokens % length;
  const int64_t taken = most > 0 ? std::min(most, counts.rows) : counts.rows;
  at::Tensor rows = at::empty({taken, length}, at::kLong);
  std::copy_n(stream.ids.begin(), rows.numel(), rows.data_ptr<int64_t>());
  return rows;
}

}  // namespace lathe
