// The transforms of QuIP# and QTIP against their own code, and their definition.
#include "lib/numeric/hadamard.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

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

}  // namespace
}  // namespace lathe
