// The transforms of QuIP# and QTIP against their own code, and their definition.
#include "lib/numeric/hadamard.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "lib/base/error.h"
#include "lib/numeric/hadamard_matrices.h"

namespace lathe {
namespace {

/// U, column by column.
at::Tensor whole(int64_t n) { return hadamard_rows(at::eye(n)).t(); }

TEST(Hadamard, IsOrthogonalWithEntriesOfOneSize) {
  std::vector<int64_t> sizes = {1, 2, 64, 256};
  for (const HadamardMatrix& matrix : hadamard_matrices()) {
    EXPECT_EQ(static_cast<int64_t>(matrix.signs.size()), matrix.order * matrix.order / 4);
    for (const int64_t factor : {1, 4}) sizes.push_back(factor * matrix.order);
  }
  for (const int64_t n : sizes) {
    ASSERT_TRUE(has_hadamard(n)) << n;
    const at::Tensor matrix = whole(n);
    EXPECT_TRUE(at::allclose(matrix.matmul(matrix.t()), at::eye(n), 0, 1e-5)) << n;
    EXPECT_TRUE(at::allclose(matrix.abs(), at::full({n, n}, 1 / std::sqrt(static_cast<double>(n))), 1e-5))
        << n;
  }
}

TEST(Hadamard, KnowsItsSizes) {
  for (const int64_t n : {0, -4, 3, 44, 100, 172 * 3}) EXPECT_FALSE(has_hadamard(n)) << n;
  for (const int64_t n : {1, 4096, 11008, 13824, 5120, 14336}) EXPECT_TRUE(has_hadamard(n)) << n;
}

/// H of `width` channels, whose blocks' entries are (-1)^(bits that i and j share) / sqrt(block):
/// Sylvester's.
at::Tensor block_diagonal(int64_t width, int64_t block) {
  at::Tensor matrix = at::zeros({width, width}, at::kDouble);
  auto entries = matrix.accessor<double, 2>();
  for (int64_t i = 0; i < width; ++i) {
    for (int64_t j = i / block * block; j < (i / block + 1) * block; ++j) {
      const bool odd = std::popcount(static_cast<uint64_t>(i % block & j % block)) % 2 == 1;
      entries[i][j] = (odd ? -1 : 1) / std::sqrt(static_cast<double>(block));
    }
  }
  return matrix;
}

TEST(HadamardBlocks, MultiplyBySylvestersMatrixInBlocks) {
  at::manual_seed(1);
  for (const int64_t block : kHadamardBlocks) {
    const at::Tensor matrix = block_diagonal(384, block), x = at::randn({5, 384});
    EXPECT_TRUE(
        at::allclose(hadamard_blocks(x, block).to(at::kDouble), x.to(at::kDouble).matmul(matrix), 0, 1e-5))
        << block;
    EXPECT_TRUE(at::allclose(hadamard_blocks(hadamard_blocks(x, block), block), x, 0, 1e-5)) << block;
  }
}

TEST(HadamardBlocks, KeepLinearsAndTurnGramMatrices) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({40, 96}), w = at::randn({24, 96});
  const at::Tensor matrix = block_diagonal(96, 32).to(at::kFloat);
  const at::Tensor turned = hadamard_blocks(x, 32), weight = hadamard_blocks(w, 32);
  EXPECT_TRUE(at::allclose(turned.matmul(weight.t()), x.matmul(w.t()), 0, 1e-4));  // W' x' = W x
  EXPECT_TRUE(at::allclose(weight.matmul(matrix.t()), w, 0, 1e-5));                // W' H^T = W
  EXPECT_TRUE(
      at::allclose(turned.t().matmul(turned), matrix.t().matmul(x.t().matmul(x)).matmul(matrix), 0, 1e-3));
}

TEST(HadamardBlocks, LeaveTheirArgumentAndTakeAnyTypeAndShape) {
  at::manual_seed(3);
  const at::Tensor x = at::randn({2, 3, 64}), before = x.clone();
  const at::Tensor rotated = hadamard_blocks(x, 16);
  EXPECT_TRUE(x.equal(before));
  EXPECT_TRUE(hadamard_blocks(x.transpose(0, 1), 16).equal(rotated.transpose(0, 1)));
  EXPECT_TRUE(
      hadamard_blocks(x.narrow(1, 1, 1), 16).equal(rotated.narrow(1, 1, 1)));  // whatever rows come together
  EXPECT_EQ(hadamard_blocks(x.to(at::kBFloat16), 16).scalar_type(), at::kFloat);
  EXPECT_THROW(hadamard_blocks(at::randn({2, 24}), 16), InternalError);
  EXPECT_THROW(hadamard_blocks(at::randn({2, 24}), 12), InternalError);
}

}  // namespace
}  // namespace lathe
