#include "calib/stats/token_runs.h"

#include <algorithm>

#include "lib/base/error.h"

namespace lathe {

void TokenRuns::add(int64_t token, int64_t count) {
  if (count == 0) return;
  const bool continues = !runs_.empty() && token - runs_.back().token == rows_ - runs_.back().row;
  if (!continues) runs_.push_back({rows_, token});
  rows_ += count;
}

void TokenRuns::append(const TokenRuns& other, int64_t token_offset) {
  for (size_t i = 0; i < other.runs_.size(); ++i) {
    const int64_t end = i + 1 < other.runs_.size() ? other.runs_[i + 1].row : other.rows_;
    add(other.runs_[i].token + token_offset, end - other.runs_[i].row);
  }
}

int64_t TokenRuns::token_of(int64_t row) const {
  LATHE_ASSERT(row >= 0 && row < rows_, "row {} of {}", row, rows_);
  const auto after = std::upper_bound(runs_.begin(), runs_.end(), row,
                                      [](int64_t value, const Run& run) { return value < run.row; });
  return (after - 1)->token + (row - (after - 1)->row);
}

}  // namespace lathe
