// Which observed token a counted row was: masks drop rows, but errors name tokens by where they stood.
#pragma once

#include <cstdint>
#include <vector>

namespace lathe {

/// Ascending pairs (counted row, token), one for each unbroken run of tokens: a few for a sample.
class TokenRuns {
 public:
  /// The next `count` counted rows are the tokens from `token` on.
  void add(int64_t token, int64_t count);
  /// All rows of `other` follow, with its tokens counted from `token_offset`.
  void append(const TokenRuns& other, int64_t token_offset);
  int64_t rows() const { return rows_; }
  /// The token of a counted row in [0, rows()).
  int64_t token_of(int64_t row) const;

 private:
  struct Run {
    int64_t row, token;
  };
  std::vector<Run> runs_;
  int64_t rows_ = 0;
};

}  // namespace lathe
