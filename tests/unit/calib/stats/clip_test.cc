#include "calib/stats/clip.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "calib/stats/histogram.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

/// The histograms of tests/golden/clip/make_clips.py, width 1.
Histogram formula(const std::function<int64_t(int64_t)>& count) {
  Histogram histogram{1.0, {}, 0};
  for (int64_t k = 0; k < kHistogramBins; ++k)
    histogram.total += histogram.counts[static_cast<size_t>(k)] = count(k);
  return histogram;
}

std::map<std::string, Histogram> histograms() {
  return {
      {"wide", formula([](int64_t k) { return 5'000'000'000 / (5000 + k * k); })},
      {"narrow", formula([](int64_t k) -> int64_t {
         if (k == 1500) return 7;
         if (k == 2047) return 2;
         return k < 700 ? (700 - k) * (700 - k) * (700 - k) / 1000 : 0;
       })},
      {"comb", formula([](int64_t k) -> int64_t {
         if (k == 2046) return 1;
         return k % 5 == 0 ? 1'000'000 / (1 + k) : 0;
       })},
      {"flat", formula([](int64_t) { return 1000; })},
      {"small", formula([](int64_t k) { return k % 97 == 3 ? 1 : 0; })},
  };
}

const std::vector<LevelGrid>& grids() {
  static const std::vector<LevelGrid> all = {integer_levels(8), integer_levels(4), fp8_e4m3_levels(),
                                             fp8_e5m2_levels()};
  return all;
}

TEST(Clip, EqualsAnIndependentImplementation) {
  std::ifstream file(std::string(LATHE_SOURCE_DIR) + "/tests/golden/clip/clips.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  ASSERT_EQ(golden.size(), 25u);
  for (const auto& [shape, histogram] : histograms()) {
    for (const LevelGrid& grid : grids()) {
      SCOPED_TRACE(shape + " " + grid.name);
      const nlohmann::json& expected = golden.at(shape + " " + grid.name);
      const Clip mse = mse_clip(histogram, grid), entropy = entropy_clip(histogram, grid);
      EXPECT_EQ(mse.bins, expected["mse"]["bins"]);
      EXPECT_NEAR(mse.score, expected["mse"]["score"], 1e-9 * mse.score);
      EXPECT_EQ(entropy.bins, expected["kl"]["bins"]);
      EXPECT_NEAR(entropy.score, expected["kl"]["score"], 1e-11);
      EXPECT_EQ(mse.magnitude, static_cast<double>(mse.bins));
    }
  }
}

TEST(Clip, EntropyEqualsThePublishedRecipe) {
  std::ifstream file(std::string(LATHE_SOURCE_DIR) + "/tests/golden/clip/clips.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  for (const auto& [shape, histogram] : histograms()) {
    SCOPED_TRACE(shape);
    const nlohmann::json& expected = golden.at("published " + shape);
    const Clip clip = entropy_clip(histogram, integer_levels(8));
    EXPECT_EQ(clip.bins, expected["bins"]);
    EXPECT_NEAR(clip.score, expected["score"], 1e-11);
  }
}

TEST(Clip, LevelsOfFormatsAreTheirs) {
  for (const auto& [grid, type, count] :
       {std::tuple{fp8_e4m3_levels(), at::kFloat8_e4m3fn, 127}, {fp8_e5m2_levels(), at::kFloat8_e5m2, 124}}) {
    const at::Tensor values =
        at::arange(count, at::kInt).to(at::kByte).view(type).to(at::kFloat).to(at::kDouble);
    ASSERT_EQ(static_cast<int64_t>(grid.levels.size()), count);
    for (int i = 0; i < count; ++i)
      EXPECT_EQ(grid.levels[static_cast<size_t>(i)], values[i].item<double>()) << grid.name;
  }
  EXPECT_EQ(integer_levels(8).largest(), 127);
  EXPECT_THROW(integer_levels(1), InternalError);
}

/// Squared error of values rounded to a grid that is clipped at `clip`, by trying every level.
double rounding_error(const at::Tensor& magnitudes, const LevelGrid& grid, double clip) {
  const at::Tensor levels = at::tensor(grid.levels, at::kDouble) * (clip / grid.largest());
  return std::get<0>((magnitudes.unsqueeze(1) - levels).abs().min(1)).square().mean().item<double>();
}

TEST(Clip, TheMseClipIsNearlyTheBestOfManyOnTheValuesThemselves) {
  at::manual_seed(1);
  at::Tensor values = at::randn({20000});
  values.slice(0, 0, 20).mul_(12);  // outliers
  const Histogram histogram = magnitude_histogram(values.const_data_ptr<float>(), values.numel());
  const at::Tensor magnitudes = values.abs().to(at::kDouble);
  for (const LevelGrid& grid : grids()) {
    const Clip chosen = mse_clip(histogram, grid);
    const double error = rounding_error(magnitudes, grid, chosen.magnitude);
    EXPECT_NEAR(error, chosen.score, 0.05 * error) << grid.name;
    for (double clip = 1; clip < 40; clip *= 1.2)
      EXPECT_LE(error, 1.03 * rounding_error(magnitudes, grid, clip)) << grid.name << " at " << clip;
  }
}

TEST(Clip, OutliersAreClippedByIntegersAndKeptByFloats) {
  at::manual_seed(2);
  at::Tensor values = at::randn({100000});
  values[0] = 60.0f;
  const Histogram histogram = magnitude_histogram(values.const_data_ptr<float>(), values.numel());
  EXPECT_LT(mse_clip(histogram, integer_levels(4)).magnitude, 6);
  EXPECT_LT(entropy_clip(histogram, integer_levels(8)).magnitude, 12);
  EXPECT_GT(mse_clip(histogram, fp8_e4m3_levels()).magnitude, 30);
}

TEST(Clip, ZerosOfAReluDontDecide) {
  at::manual_seed(3);
  const at::Tensor values = at::randn({100000}).clamp_min(0);
  const Histogram histogram = magnitude_histogram(values.const_data_ptr<float>(), values.numel());
  Histogram positive = histogram;
  positive.total -= positive.counts[0] - positive.counts[1];
  positive.counts[0] = positive.counts[1];
  ASSERT_GT(histogram.counts[0], 40000);
  for (const LevelGrid& grid : grids())
    EXPECT_EQ(entropy_clip(histogram, grid).bins, entropy_clip(positive, grid).bins) << grid.name;
}

TEST(Clip, ZerosAndFewValuesHaveAClip) {
  const std::vector<float> zeros(100, 0.0f), same(100, 1.0f);
  for (const auto& clip : {mse_clip, entropy_clip}) {
    EXPECT_EQ(clip(magnitude_histogram(zeros.data(), 100), integer_levels(8)).magnitude, 0);
    EXPECT_NEAR(clip(magnitude_histogram(same.data(), 100), integer_levels(8)).magnitude, 1, 2e-3);
    EXPECT_THROW(clip(Histogram{}, integer_levels(8)), InternalError);
  }
}

}  // namespace
}  // namespace lathe
