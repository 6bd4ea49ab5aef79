// The FP64 reference of SpQR against independent definitions: brute-force elimination, least squares, and
// what the paper says of its own quantities.
#include "algorithms/spqr_reference.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace lathe {
namespace {

at::Tensor doubles(at::IntArrayRef shape) { return at::randn(shape, at::kDouble); }

/// A Gram matrix of correlated inputs, with a few strong channels.
at::Tensor correlated_gram(int64_t width, int64_t tokens) {
  at::Tensor x = doubles({tokens, width}).mm(doubles({width, width}) * 0.3 + at::eye(width, at::kDouble));
  x.select(1, 3).mul_(8);
  return x.t().mm(x) / static_cast<double>(tokens);
}

double loss(const at::Tensor& weight, const at::Tensor& approximation, const at::Tensor& gram) {
  const at::Tensor delta = approximation - weight;
  return delta.mm(gram).mul(delta).sum().item<double>();
}

/// The range of a group's grid, from definitions.
at::Tensor on_own_grid(const at::Tensor& values, int bits) {
  const double lo = std::min(values.min().item<double>(), 0.0),
               hi = std::max(values.max().item<double>(), 0.0);
  const double scale = (hi - lo) / (std::pow(2, bits) - 1), zero = -lo / scale;
  return ((values / scale + zero).round().clamp(0, std::pow(2, bits) - 1) - zero) * scale;
}

/// Optimal brain quantisation, column by column, by elimination from the inverse itself: no factorisation.
at::Tensor brute_force(at::Tensor weight, const at::Tensor& hessian, int bits, int64_t group_size) {
  at::Tensor inverse = at::linalg_inv(hessian), result = at::empty_like(weight);
  weight = weight.clone();
  for (int64_t row = 0; row < weight.size(0); ++row) {
    at::Tensor w = weight[row], left = inverse.clone();
    double scale = 0, zero = 0;
    for (int64_t j = 0; j < w.size(0); ++j) {
      if (j % group_size == 0) {
        const at::Tensor group = w.slice(0, j, j + group_size);
        const double lo = std::min(group.min().item<double>(), 0.0);
        scale = (std::max(group.max().item<double>(), 0.0) - lo) / (std::pow(2, bits) - 1);
        zero = -lo / scale;
      }
      const double value = w[j].item<double>();
      const double code = std::clamp(std::nearbyint(value / scale + zero), 0.0, std::pow(2, bits) - 1);
      result[row][j] = scale * (code - zero);
      const double error = (value - scale * (code - zero)) / left[j][j].item<double>();
      w.slice(0, j + 1).sub_(left[j].slice(0, j + 1) * error);
      left = left - left.select(1, j).outer(left[j]) / left[j][j];
    }
  }
  return result;
}

at::Tensor damped(const at::Tensor& gram, double damping) {
  return gram + damping * gram.diagonal().mean() * at::eye(gram.size(0), at::kDouble);
}

TEST(SpqrReference, WithoutOutliersAndSecondLevelIsOptimalBrainQuantisation) {
  at::manual_seed(1);
  const at::Tensor weight = doubles({5, 24}), gram = correlated_gram(24, 200);
  for (const int bits : {2, 3, 4}) {
    const auto result = spqr_reference(weight, gram, {.bits = bits, .group_size = 8});
    const at::Tensor expected = brute_force(weight, damped(gram, 0.01), bits, 8);
    EXPECT_TRUE(at::allclose(result.values, expected, 1e-9, 1e-9)) << bits;
    EXPECT_FALSE(result.is_outlier.any().item<bool>());
  }
}

TEST(SpqrReference, TakesColumnsInTheOrderOfTheirPower) {
  at::manual_seed(2);
  const at::Tensor weight = doubles({4, 16}), gram = correlated_gram(16, 100);
  const auto result = spqr_reference(weight, gram, {.group_size = 8, .act_order = true});
  const at::Tensor power = gram.diagonal().index_select(0, result.permutation);
  EXPECT_TRUE((power.slice(0, 1) <= power.slice(0, 0, 15)).all().item<bool>());
  const at::Tensor order = result.permutation;
  const at::Tensor h = damped(gram, 0.01).index_select(0, order).index_select(1, order);
  const at::Tensor expected = brute_force(weight.index_select(1, order), h, 3, 8);
  EXPECT_TRUE(at::allclose(result.values.index_select(1, order), expected, 1e-9, 1e-9));
}

/// The loss that an error of `e` in weight j leaves when the later weights make up for it as well as they
/// can, by solving for them.
double least_squares_loss(const at::Tensor& hessian, int64_t j, double e) {
  const at::Tensor later = hessian.slice(0, j + 1).slice(1, j + 1),
                   cross = hessian.slice(0, j + 1).select(1, j);
  double pull = 0;
  if (later.size(0) > 0) {
    pull = cross.dot(at::linalg_solve(later, cross.unsqueeze(1)).squeeze(1)).item<double>();
  }
  return e * e * (hessian[j][j].item<double>() - pull);
}

TEST(SpqrReference, LeaveOneOutIsBruteForceRefittingAndLeastSquares) {
  at::manual_seed(3);
  const int64_t width = 8;
  const at::Tensor hessian = damped(correlated_gram(width, 100), 0.05);
  const at::Tensor pivots =
      at::linalg_cholesky(at::linalg_inv(hessian), /*upper=*/true).diagonal().contiguous();
  at::Tensor group = doubles({6, width});
  group[0][2] = 9;  // a weight that spoils its group's grid
  const at::Tensor gain = spqr_leave_one_out_reference(group, pivots, 3);
  const auto group_loss = [&](const at::Tensor& row, const at::Tensor& kept) {
    const at::Tensor values = row.index_select(0, kept), error = on_own_grid(values, 3) - values;
    double sum = 0;
    for (int64_t i = 0; i < kept.size(0); ++i) {
      sum += least_squares_loss(hessian, kept[i].item<int64_t>(), error[i].item<double>());
    }
    return sum;
  };
  const at::Tensor all = at::arange(width, at::kLong);
  for (int64_t row = 0; row < group.size(0); ++row) {
    for (int64_t i = 0; i < width; ++i) {
      const double expected =
          group_loss(group[row], all) - group_loss(group[row], all.masked_select(all != i));
      EXPECT_NEAR(gain[row][i].item<double>(), expected, 1e-9 * (1 + std::abs(expected))) << row << ' ' << i;
    }
  }
  EXPECT_EQ(gain[0].argmax().item<int64_t>(), 2);
}

TEST(SpqrReference, AnOutlierKeepsItsWeight) {
  at::manual_seed(4);
  at::Tensor weight = doubles({16, 32});
  weight[3][5] = 40;
  weight[7][20] = -25;
  for (const OutlierRule rule : {OutlierRule::leave_one_out, OutlierRule::refined, OutlierRule::error}) {
    // Without correlation nothing moves a weight before its turn.
    const auto result =
        spqr_reference(weight, at::eye(32, at::kDouble),
                       {.scale_grid = ScaleGrid{}, .rule = rule, .threshold = 0.05, .damping = 0});
    ASSERT_GT(result.is_outlier.sum().item<int64_t>(), 0);
    const at::Tensor off = (result.values - weight).abs().masked_select(result.is_outlier);
    const at::Tensor allowed =
        result.outliers.abs().masked_select(result.is_outlier) * std::pow(2, -11) + 1e-7;
    EXPECT_TRUE((off <= allowed).all().item<bool>());
    EXPECT_TRUE(result.outliers.masked_select(result.is_outlier.logical_not()).eq(0).all().item<bool>());
    EXPECT_EQ(result.is_outlier[3][5].item<bool>(), rule != OutlierRule::error);
  }
}

TEST(SpqrReference, MoreOutliersLoseLess) {
  at::manual_seed(5);
  const at::Tensor weight = doubles({32, 64}), gram = correlated_gram(64, 500);
  for (const OutlierRule rule : {OutlierRule::leave_one_out, OutlierRule::refined, OutlierRule::error}) {
    double last = std::numeric_limits<double>::infinity();
    int64_t last_count = -1;
    for (const double threshold : {HUGE_VAL, 1.0, 0.25, 0.06, 0.015}) {
      const auto result = spqr_reference(
          weight, gram, {.scale_grid = ScaleGrid{}, .rule = rule, .threshold = threshold, .act_order = true});
      const double now = loss(weight, result.values, gram);
      const int64_t count = result.is_outlier.sum().item<int64_t>();
      EXPECT_GT(count, last_count) << threshold;
      EXPECT_LT(now, last) << threshold << " with " << count << " outliers";
      last = now;
      last_count = count;
    }
  }
}

TEST(SpqrReference, ZeroRowsDeadColumnsAndConstantGroupsComeOutExact) {
  at::manual_seed(6);
  at::Tensor weight = doubles({16, 32}) * 0.02;
  weight[4].zero_();
  weight.slice(1, 16, 32).fill_(0.375);  // FP16 holds 0.375 / 7 only to a part in 2048
  at::Tensor gram = at::eye(32, at::kDouble);
  gram[2].zero_();
  const auto result = spqr_reference(weight, gram, {.scale_grid = ScaleGrid{}});
  EXPECT_TRUE(result.values[4].slice(0, 0, 16).eq(0).all().item<bool>());
  EXPECT_TRUE(at::allclose(result.values.slice(1, 16, 32), weight.slice(1, 16, 32), 1e-3, 0));
  EXPECT_TRUE(result.values.isfinite().all().item<bool>());
}

}  // namespace
}  // namespace lathe
