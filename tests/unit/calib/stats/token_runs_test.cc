#include "calib/stats/token_runs.h"

#include <gtest/gtest.h>

#include "lib/base/error.h"

namespace lathe {
namespace {

TEST(TokenRuns, FindsTheTokenOfEachCountedRow) {
  TokenRuns runs;
  std::vector<int64_t> tokens;
  for (const auto& [token, count] : std::vector<std::pair<int64_t, int64_t>>{
           {0, 3}, {3, 2}, {10, 1}, {20, 0}, {12, 4}, {16, 1}, {100, 5}}) {
    runs.add(token, count);
    for (int64_t i = 0; i < count; ++i) tokens.push_back(token + i);
  }
  ASSERT_EQ(runs.rows(), static_cast<int64_t>(tokens.size()));
  for (size_t row = 0; row < tokens.size(); ++row)
    EXPECT_EQ(runs.token_of(static_cast<int64_t>(row)), tokens[row]);
  EXPECT_THROW(runs.token_of(runs.rows()), InternalError);
  EXPECT_THROW(runs.token_of(-1), InternalError);
}

TEST(TokenRuns, AppendsAnotherStreamBehindTheTokensSeen) {
  TokenRuns first, second;
  first.add(2, 2);  // of 10 tokens seen
  second.add(0, 1);
  second.add(5, 2);
  first.append(second, 10);
  const std::vector<int64_t> expected = {2, 3, 10, 15, 16};
  ASSERT_EQ(first.rows(), 5);
  for (int64_t row = 0; row < 5; ++row) EXPECT_EQ(first.token_of(row), expected[static_cast<size_t>(row)]);
}

}  // namespace
}  // namespace lathe
