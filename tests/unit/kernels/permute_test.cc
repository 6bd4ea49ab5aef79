#include "lib/kernels/permute.h"

#include <gtest/gtest.h>

namespace lathe::kernels {
namespace {

TEST(PermuteColumns, IsIndexSelectInPlaceForEveryElementSize) {
  at::manual_seed(1);
  for (const at::ScalarType type : {at::kChar, at::kHalf, at::kFloat, at::kDouble}) {
    for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{700, 90}, {1, 5}, {3, 1}, {0, 4}}) {
      const at::Tensor matrix = at::randn({rows, columns}).mul(50).to(type), order = at::randperm(columns);
      const at::Tensor expected = matrix.index_select(1, order);
      permute_columns(matrix, order);
      EXPECT_TRUE(matrix.equal(expected)) << type << " " << rows << " x " << columns;
    }
  }
}

TEST(PermutedBothWays, IsIndexSelectOfRowsAndColumns) {
  at::manual_seed(2);
  const at::Tensor whole = at::randn({300, 320}), matrix = whole.slice(1, 7, 307), order = at::randperm(300);
  const at::Tensor before = whole.clone();
  EXPECT_TRUE(permuted_both_ways(matrix, order).equal(matrix.index_select(0, order).index_select(1, order)));
  EXPECT_TRUE(whole.equal(before));
}

TEST(PermuteBothWays, IsTheSameInPlace) {
  at::manual_seed(3);
  for (const int64_t size : {1, 2, 90, 301}) {
    const at::Tensor matrix = at::randn({size, size}), order = at::randperm(size);
    const at::Tensor expected = permuted_both_ways(matrix, order);
    permute_both_ways(matrix, order);
    EXPECT_TRUE(matrix.equal(expected)) << size;
  }
}

}  // namespace
}  // namespace lathe::kernels
