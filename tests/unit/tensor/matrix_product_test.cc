// Products against FP64's, over views and sizes that meet every edge of a tile; and the same bits for any
// number of threads.
#include "lib/tensor/matrix_product.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "lib/tensor/openblas.h"

namespace lathe {
namespace {

at::Tensor random_matrix(int64_t rows, int64_t columns, uint64_t seed) {
  at::Generator generator = at::detail::createCPUGenerator(seed);
  return at::randn({rows, columns}, generator);
}

/// One matrix in the ways in which views hold it.
std::vector<at::Tensor> views(int64_t rows, int64_t columns, uint64_t seed) {
  const at::Tensor matrix = random_matrix(rows, columns, seed);
  at::Tensor wide = random_matrix(rows, columns + 3, seed + 1),
             tall = random_matrix(columns, 2 * rows, seed + 2);
  wide.slice(1, 1, columns + 1).copy_(matrix);
  tall.slice(1, 0, 2 * rows, 2).copy_(matrix.t());
  return {matrix, matrix.t().contiguous().t(), wide.slice(1, 1, columns + 1),
          tall.slice(1, 0, 2 * rows, 2).t()};  // the last one is no view that BLAS can read
}

double largest_error(const at::Tensor& found, const at::Tensor& expected) {
  return (found.to(at::kDouble) - expected).abs().max().item<double>();
}

class MatrixProduct : public testing::TestWithParam<std::array<int64_t, 3>> {};

TEST_P(MatrixProduct, IsThatOfFp64WhateverTheViews) {
  const auto [m, k, n] = GetParam();
  const double bound = 1e-6 * static_cast<double>(k + 8);
  for (const at::Tensor& a : views(m, k, 1)) {
    for (const at::Tensor& b : views(k, n, 5)) {
      const at::Tensor expected = at::mm(a.to(at::kDouble), b.to(at::kDouble));
      EXPECT_LT(largest_error(matrix_product(a, b), expected), bound);
      const at::Tensor whole = random_matrix(m + 2, n + 5, 9), before = whole.clone();
      add_matrix_product(whole.slice(0, 1, m + 1).slice(1, 2, n + 2), a, b, -0.5);
      at::Tensor sum = before.to(at::kDouble);
      sum.slice(0, 1, m + 1).slice(1, 2, n + 2).sub_(expected, 0.5);
      EXPECT_LT(largest_error(whole, sum), bound);
    }
  }
}

TEST_P(MatrixProduct, OfALinearAddsTheBias) {
  const auto [m, k, n] = GetParam();
  const at::Tensor x = random_matrix(2 * m, k, 1).view({2, m, k}), weight = random_matrix(n, k, 2),
                   bias = random_matrix(1, n, 3).view({n});
  const double bound = 1e-6 * static_cast<double>(k + 8);
  const at::Tensor expected = at::matmul(x.to(at::kDouble), weight.to(at::kDouble).t());
  const at::Tensor plain = linear_product(x, weight, {});
  EXPECT_EQ(plain.sizes(), expected.sizes());
  EXPECT_LT(largest_error(plain, expected), bound);
  EXPECT_LT(largest_error(linear_product(x, weight, bias), expected + bias), bound);
}

INSTANTIATE_TEST_SUITE_P(Sizes, MatrixProduct,
                         testing::Values(std::array<int64_t, 3>{1, 1, 1}, std::array<int64_t, 3>{1, 7, 5},
                                         std::array<int64_t, 3>{5, 3, 1}, std::array<int64_t, 3>{64, 64, 64},
                                         std::array<int64_t, 3>{513, 33, 17},
                                         std::array<int64_t, 3>{31, 600, 1025},
                                         std::array<int64_t, 3>{1024, 5, 512}));

TEST(MatrixProductOfNothing, IsEmptyOrZero) {
  EXPECT_EQ(matrix_product(at::empty({0, 3}), at::empty({3, 4})).sizes(), at::IntArrayRef({0, 4}));
  EXPECT_TRUE(matrix_product(at::empty({2, 0}), at::empty({0, 4})).eq(0).all().item<bool>());
}

TEST(MatrixProductOfNan, IsNan) {
  at::Tensor a = at::zeros({3, 4});
  a[1][2] = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor product = matrix_product(a, at::zeros({4, 2}));
  EXPECT_TRUE(product[1].isnan().all().item<bool>());
  EXPECT_TRUE(product[0].eq(0).all().item<bool>());
}

TEST(MatrixProductOfFp64, IsAten) {
  const at::Tensor a = random_matrix(5, 6, 1).to(at::kDouble), b = random_matrix(6, 7, 2).to(at::kDouble);
  EXPECT_TRUE(matrix_product(a, b).equal(at::mm(a, b)));
}

TEST(SetMatrixProduct, OverwritesAPartOfAMatrix) {
  const at::Tensor a = random_matrix(40, 30, 1), b = random_matrix(30, 20, 2);
  at::Tensor whole = at::full({50, 25}, std::numeric_limits<float>::quiet_NaN());
  set_matrix_product(whole.slice(0, 10).slice(1, 2, 22), a, b, -2);
  EXPECT_LT(
      largest_error(whole.slice(0, 10).slice(1, 2, 22) / -2, at::mm(a.to(at::kDouble), b.to(at::kDouble))),
      1e-4);
  EXPECT_EQ(whole.isnan().sum().item<int64_t>(), 50 * 25 - 40 * 20);
}

TEST(LinearProductOfASample, HasTheSameBitsWithAndWithoutOthers) {
  for (const int64_t n : {8, 20, 86, 576}) {
    for (const int64_t k : {8, 32, 172}) {
      for (const int64_t tokens : {1, 7, 48, 130}) {
        const at::Tensor x = random_matrix(5 * tokens, k, 1).view({5, tokens, k}),
                         weight = random_matrix(n, k, 2);
        const at::Tensor whole = linear_product(x, weight, at::Tensor());
        EXPECT_LT(largest_error(whole.view({-1, n}),
                                at::mm(x.reshape({-1, k}).to(at::kDouble), weight.t().to(at::kDouble))),
                  1e-4);
        for (const auto& [first, end] : {std::pair<int64_t, int64_t>{0, 1}, {1, 3}, {4, 5}}) {
          EXPECT_TRUE(
              linear_product(x.slice(0, first, end), weight, at::Tensor()).equal(whole.slice(0, first, end)))
              << n << " x " << k << ", " << tokens << " tokens, samples " << first << " to " << end;
        }
      }
    }
  }
}

TEST(MatrixProductThreads, ChangeNoBit) {
  if (OpenBlas::instance() == nullptr) GTEST_SKIP() << "this machine's products are libtorch's";
  const at::Tensor a = random_matrix(1100, 700, 1), b = random_matrix(700, 1300, 2);
  const auto results = [&] { return matrix_product(a, b); };
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor one = results();
  at::set_num_threads(4);
  const at::Tensor four = results();
  at::set_num_threads(before);
  EXPECT_TRUE(one.equal(four));
}

TEST(MatrixProductOfRows, GivesTheBitsOfTheWholeWhateverThePart) {
  for (const auto& [rows, columns] :
       {std::pair<int64_t, int64_t>{5000, 7}, {4096, 200}, {9001, 130}, {300, 40}}) {
    const at::Tensor a = random_matrix(rows, 128, 1), b = random_matrix(128, columns, 2),
                     before = random_matrix(rows, columns, 3);
    const at::Tensor all = before.clone(), whole = before.clone(), parts = before.clone();
    add_matrix_product(all, a, b, -1);
    add_matrix_product_of_rows(whole, a, b, -1, rows);
    const int64_t step = part_rows(rows);
    EXPECT_EQ(step < rows, rows >= 4096) << "no test of anything";
    for (int64_t row = 0; row < rows; row += step) {
      const int64_t end = std::min(rows, row + step);
      add_matrix_product_of_rows(parts.slice(0, row, end), a.slice(0, row, end), b, -1, rows);
    }
    EXPECT_TRUE(at::equal(parts, whole)) << rows;
    EXPECT_LT(largest_error(whole, all.to(at::kDouble)), 1e-4);
    if (OpenBlas::instance() != nullptr) {
      EXPECT_TRUE(at::equal(whole, all)) << rows;
    }
  }
}

}  // namespace
}  // namespace lathe
