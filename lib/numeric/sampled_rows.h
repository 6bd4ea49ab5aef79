// Rows that stand for a matrix, where looking at all of it would cost too much.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace lathe {

/// Runs of rows [begin, end) of a matrix [out, in] with at most `values` values in all, but one row at least:
/// the whole matrix, or eight runs, evenly spaced from its first row to its last.
std::vector<std::pair<int64_t, int64_t>> sampled_rows(int64_t out, int64_t in, int64_t values);

}  // namespace lathe
