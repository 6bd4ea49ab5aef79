#include "calib/stats/input_description.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/unit/calib/stats/collect.h"

namespace lathe {
namespace {

InputDescription described(const at::Tensor& x) { return describe_input(collect(x, 300, kDescription)); }

double kurtosis(const at::Tensor& x) {
  const at::Tensor d = x.to(at::kDouble) - x.to(at::kDouble).mean();
  return (d.pow(4).mean() / d.square().mean().square()).item<double>();
}

TEST(InputDescription, IsWhatTheValuesSay) {
  at::manual_seed(1);
  at::Tensor x = at::randn({3000, 40});
  x.select(1, 7).mul_(20);   // an outlier channel
  x.select(1, 9).mul_(2.5);  // |x| >= 6 in 1.6 % of its tokens: none
  x[11].mul_(30);            // a token that stands out
  const InputDescription seen = described(x);
  const at::Tensor size = x.abs(), tokens = size.amax(1), wide = x.to(at::kDouble);
  EXPECT_EQ(seen.tokens, 3000);
  EXPECT_EQ(seen.width, 40);
  EXPECT_EQ(seen.abs_max, size.max().item<float>());
  const double first = size.slice(0, 0, 2048).max().item<float>(),
               rest = size.slice(0, 2048).max().item<float>();
  EXPECT_NEAR(seen.abs_max_mean, 0.99 * first + 0.01 * rest, 1e-4 * first);
  EXPECT_NEAR(seen.mean_abs, wide.abs().mean().item<double>(), 1e-6);
  EXPECT_NEAR(seen.kurtosis, kurtosis(x), 1e-6 * seen.kurtosis);
  EXPECT_EQ(seen.outlier_channels, 1);
  EXPECT_DOUBLE_EQ(seen.outlier_share, size.ge(6).sum().item<double>() / (3000 * 40));
  std::vector<double> channels;
  for (int64_t c = 0; c < 40; ++c) channels.push_back(kurtosis(x.select(1, c)));
  std::nth_element(channels.begin(), channels.begin() + 19, channels.end());
  EXPECT_NEAR(seen.channel_kurtosis, channels[19], 1e-5 * channels[19]);
  const at::Tensor sorted = std::get<0>(size.sort(0));
  const at::Tensor high = sorted[2996];  // the 99.9th percentile of 3000
  EXPECT_NEAR(seen.channel_spread, (high.max() / high.median()).item<double>(), 0.05 * seen.channel_spread);
  EXPECT_NEAR(seen.abs_p9999, std::get<0>(size.flatten().sort())[120000 - 13].item<double>(),
              1e-3 * seen.abs_p9999);
  EXPECT_EQ(seen.token_abs_max, tokens.median().item<float>());
  EXPECT_NEAR(seen.token_spread, (tokens.max() / tokens.median()).item<double>(), 1e-5 * seen.token_spread);
  EXPECT_GT(seen.token_spread, 5) << "a dynamic range";
}

TEST(InputDescription, OfZerosAndOfOneToken) {
  const InputDescription zeros = described(at::zeros({10, 4}));
  EXPECT_EQ(zeros.abs_max, 0);
  EXPECT_EQ(zeros.channel_spread, 0);
  EXPECT_EQ(zeros.token_spread, 0);
  const InputDescription one = described(at::full({1, 4}, 7.0f));
  EXPECT_EQ(one.outlier_channels, 4);
  EXPECT_EQ(one.outlier_share, 1);
  EXPECT_EQ(one.token_spread, 1);
}

}  // namespace
}  // namespace lathe
