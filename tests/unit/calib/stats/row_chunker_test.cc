#include "calib/stats/row_chunker.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "lib/base/error.h"

namespace lathe {
namespace {

/// Rows that say where they stand.
ObservedRows numbered(int64_t begin, int64_t end) {
  const at::Tensor numbers = at::arange(begin, end, at::kFloat).view({-1, 1});
  return {numbers.expand({end - begin, 3}).contiguous(), numbers.expand({end - begin, 3}).contiguous() * 2,
          numbers.view({-1}) * 3};
}

TEST(RowChunker, GivesTheStreamInChunksHoweverItIsCut) {
  for (const int64_t step : {1, 3, 9, 10, 11, 25, 47}) {
    RowChunker chunker(10);
    int64_t next = 0;
    for (int64_t row = 0; row < 47; row += step) {
      chunker.push(numbered(row, std::min<int64_t>(row + step, 47)), [&](const ObservedRows& chunk) {
        const ObservedRows expected = numbered(next, next + 10);
        EXPECT_TRUE(at::equal(chunk.x, expected.x) && at::equal(chunk.reference, expected.reference) &&
                    at::equal(chunk.weights, expected.weights))
            << "chunk at " << next << ", steps of " << step;
        next += 10;
      });
    }
    EXPECT_EQ(next, 40);
    EXPECT_TRUE(at::equal(chunker.pending().x, numbered(40, 47).x));
    chunker.clear();
    EXPECT_EQ(chunker.pending().count(), 0);
  }
}

TEST(RowChunker, ChunksThatLieInOneObservationAreNotCopied) {
  RowChunker chunker(10);
  const ObservedRows rows = numbered(0, 30);
  int64_t next = 0;
  chunker.push(rows, [&](const ObservedRows& chunk) {
    EXPECT_EQ(chunk.x.const_data_ptr<float>(), rows.x.const_data_ptr<float>() + 3 * next);
    next += 10;
  });
  EXPECT_EQ(next, 30);
}

TEST(RowChunker, WholeChunksComeTogetherUpToTheNumberGiven) {
  RowChunker chunker(10, 3);
  std::vector<std::pair<float, int64_t>> taken;  // the first row's number, rows
  const auto take = [&](const ObservedRows& rows) {
    taken.emplace_back(rows.x[0][0].item<float>(), rows.count());
  };
  chunker.push(numbered(0, 4), take);
  chunker.push(numbered(4, 58), take);
  EXPECT_EQ(taken, (std::vector<std::pair<float, int64_t>>{{0, 10}, {10, 30}, {40, 10}}));
  EXPECT_TRUE(at::equal(chunker.pending().x, numbered(50, 58).x));
}

TEST(RowChunker, TheBufferHoldsNoMoreThanIsNeeded) {
  RowChunker chunker(1000);
  chunker.push(numbered(0, 5), [](const ObservedRows&) { FAIL() << "no chunk is complete"; });
  EXPECT_LE(chunker.pending().x.storage().nbytes(), 5u * 3 * sizeof(float));
  for (int64_t row = 5; row < 995; row += 5) chunker.push(numbered(row, row + 5), [](const ObservedRows&) {});
  EXPECT_EQ(chunker.pending().count(), 995);
  EXPECT_LE(chunker.pending().x.storage().nbytes(), 1000u * 3 * sizeof(float)) << "more than one chunk";
}

TEST(RowChunker, ObservationsOfOneStreamAreOfOneKind) {
  RowChunker chunker(10);
  const auto ignore = [](const ObservedRows&) {};
  chunker.push(numbered(0, 5), ignore);
  EXPECT_THROW(chunker.push({at::ones({2, 3}), {}, {}}, ignore), InternalError);
  chunker.clear();
  chunker.push({at::ones({2, 3}), {}, {}}, ignore);
  EXPECT_FALSE(chunker.pending().weights.defined());
}

}  // namespace
}  // namespace lathe
