#include "calib/stats/activation_range.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "calib/stats/clip.h"
#include "calib/stats/clip_range.h"
#include "calib/stats/histogram.h"
#include "lib/base/error.h"
#include "tests/unit/calib/stats/collect.h"

namespace lathe {
namespace {

using Per = ActivationScheme::Per;

ActivationTask task(ActivationObserver method, bool symmetric = true, double percentile = 99) {
  return {{"int", 8, false, Per::tensor, symmetric}, {method, percentile}};
}

InputQuantizer found(const ActivationTask& task, const at::Tensor& x, DType dtype = DType::F32) {
  return quantizer_for(task, collect(x, 100, task.needs()), dtype, "linear");
}

at::Tensor values() {
  at::manual_seed(5);
  at::Tensor x = at::randn({500, 20});
  x[3][4] = 30;
  return x;
}

TEST(ActivationRange, MinmaxSpansAllValuesAsTheLibraryDoes) {
  const at::Tensor x = values();
  const InputQuantizer symmetric = found(task(ActivationObserver::minmax), x);
  EXPECT_FLOAT_EQ(symmetric.scale, 30 / 127.5f);
  EXPECT_EQ(symmetric.zero_point, 0);
  const InputQuantizer asymmetric = found(task(ActivationObserver::minmax, false), x);
  const float low = x.min().item<float>();
  EXPECT_FLOAT_EQ(asymmetric.scale, (30 - low) / 255);
  EXPECT_EQ(asymmetric.zero_point, static_cast<int>(std::nearbyint(-128 - low / asymmetric.scale)));
}

TEST(ActivationRange, EmaIsPyTorchsAverageOfTheExtremes) {
  at::manual_seed(6);
  at::Tensor x = at::randn({3 * StatsCollector::kChunkTokens, 4});
  x[StatsCollector::kChunkTokens + 5][1] = 60;  // in the second step
  double high = 0, low = 0;
  for (int64_t step = 0; step < 3; ++step) {
    const at::Tensor chunk =
        x.slice(0, step * StatsCollector::kChunkTokens, (step + 1) * StatsCollector::kChunkTokens);
    const double most = chunk.max().item<float>(), least = chunk.min().item<float>();
    high = step == 0 ? most : high + 0.01 * (most - high);
    low = step == 0 ? least : low + 0.01 * (least - low);
  }
  EXPECT_LT(high, 10);
  const float symmetric = found(task(ActivationObserver::ema), x).scale;
  EXPECT_NEAR(symmetric, std::max(high, -low) / 127.5, 1e-6);
  const InputQuantizer asymmetric = found(task(ActivationObserver::ema, false), x);
  EXPECT_NEAR(asymmetric.scale, (high - low) / 255, 1e-6);
  ActivationTask faster = task(ActivationObserver::ema);
  faster.observer.averaging_constant = 1;
  EXPECT_FLOAT_EQ(found(faster, x).scale,
                  x.slice(0, 2 * StatsCollector::kChunkTokens).abs().max().item<float>() / 127.5f)
      << "the last step's";
  // A fold changes which channel holds the extremes: the average can't follow, and is asked for again.
  const InputStats folded =
      collect(x, 100, task(ActivationObserver::ema).needs()).with_inputs_divided(at::full({4}, 2.0f));
  EXPECT_EQ(folded.lost, (StatSet{.step_min_max = true}));
}

TEST(ActivationRange, PercentileLeavesOutTheEnds) {
  const at::Tensor x = values();
  const at::Tensor sorted = std::get<0>(x.abs().flatten().sort());
  EXPECT_FLOAT_EQ(found(task(ActivationObserver::percentile), x).scale, sorted[9899].item<float>() / 127.5f);
  const at::Tensor plain = std::get<0>(x.flatten().sort());
  const InputQuantizer asymmetric = found(task(ActivationObserver::percentile, false), x);
  EXPECT_FLOAT_EQ(asymmetric.scale, (plain[9899] - plain[99]).item<float>() / 255);
  EXPECT_NE(asymmetric.zero_point, 0);
}

TEST(ActivationRange, SearchedClipsStandForTheLargestLevel) {
  const at::Tensor x = values();
  const InputStats stats = collect(x, 100, {.distribution = true});
  const Histogram histogram = magnitude_histogram(*stats.distribution);
  const LevelGrid grid = integer_levels(8);
  EXPECT_NEAR(found(task(ActivationObserver::mse), x).scale * 127 / mse_clip(histogram, grid).magnitude, 1,
              1e-6);
  EXPECT_NEAR(found(task(ActivationObserver::kl), x).scale * 127 / entropy_clip(histogram, grid).magnitude, 1,
              1e-6);
  EXPECT_LT(found(task(ActivationObserver::kl), x).scale, 0.7 * 30 / 127.5) << "an outlier is worth clipping";
}

ActivationTask fp8_task(ActivationObserver method, double percentile = 99) {
  ActivationScheme scheme = ActivationScheme::of_floats("fp8_e4m3");
  scheme.dynamic = false;
  scheme.per = Per::tensor;
  return {scheme, {method, percentile}};
}

TEST(ActivationRange, Fp8SpansWhatTheObserverSays) {
  const at::Tensor x = values();
  const at::Tensor sorted = std::get<0>(x.abs().flatten().sort());
  EXPECT_FLOAT_EQ(found(fp8_task(ActivationObserver::minmax), x).scale, 30 / 448.0f);
  EXPECT_FLOAT_EQ(found(fp8_task(ActivationObserver::percentile), x).scale, sorted[9899].item<float>() / 448);
  EXPECT_FLOAT_EQ(found(fp8_task(ActivationObserver::percentile, 100), x).scale, 30 / 448.0f);
}

/// Values in the middle of the bins of one of clip_test.cc's histograms, signs alternating; those of few
/// values.
at::Tensor in_bins(const std::string& shape) {
  const at::Tensor k = at::arange(kHistogramBins, at::kLong);
  at::Tensor counts = at::full_like(k, 1000);
  if (shape == "comb")
    counts = at::full_like(k, 1'000'000).div(k + 1, "floor").masked_fill_(k.remainder(5).ne(0), 0);
  if (shape == "comb") counts[2046] = 1;
  if (shape == "small") counts = k.remainder(97).eq(3).to(at::kLong);
  at::Tensor x = k.to(at::kFloat).add_(0.5).repeat_interleave(counts);
  x.slice(0, 0, x.numel(), 2).neg_();
  return x.view({-1, 1});
}

TEST(ActivationRange, SearchedClipsOfFp8AreTheGoldens) {
  std::ifstream file(std::string(LATHE_SOURCE_DIR) + "/tests/golden/clip/clips.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  for (const char* shape : {"comb", "flat", "small"}) {
    const at::Tensor x = in_bins(shape);
    const InputStats stats = collect(x, x.size(0), {.distribution = true});
    const nlohmann::json& expected = golden.at(fmt::format("{} fp8_e4m3", shape));
    for (const auto& [method, key] :
         {std::pair{ActivationObserver::mse, "mse"}, {ActivationObserver::kl, "kl"}}) {
      const InputQuantizer clipped = quantizer_for(fp8_task(method), stats, DType::F32, "linear");
      EXPECT_FLOAT_EQ(clipped.scale, expected[key]["bins"].get<float>() / 448) << shape << " " << key;
      EXPECT_EQ(clipped.scheme.describe(), "fp8_e4m3 static per tensor");
    }
  }
}

TEST(ActivationRange, ScalesAreWhatIsStored) {
  const float scale = found(task(ActivationObserver::minmax), values(), DType::F16).scale;
  EXPECT_EQ(scale, at::full({1}, scale).to(at::kHalf).item<float>());
  EXPECT_GT(found(task(ActivationObserver::minmax), at::zeros({10, 4}), DType::F16).scale, 0);
  try {
    found(task(ActivationObserver::minmax), at::full({10, 4}, 1e9f), DType::F16);
    ADD_FAILURE() << "accepted";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("needs a scale beyond F16"));
  }
}

TEST(ActivationRange, DynamicGridsNeedNothing) {
  const ActivationTask dynamic{};
  EXPECT_EQ(dynamic.needs(), StatSet{});
  EXPECT_EQ(quantizer_for(dynamic, InputStats{}, DType::F16, "linear").scheme, ActivationScheme{});
}

TEST(ActivationRange, AsymmetricSearchesClipEachEndByItself) {
  at::manual_seed(9);
  at::Tensor x = at::silu(3 * at::randn({500, 20}));
  x[7][3] = 90;
  const InputStats stats = collect(x, 100, {.distribution = true});
  const Histogram histogram = signed_histogram(*stats.distribution);
  for (const auto method : {ActivationObserver::mse, ActivationObserver::kl}) {
    EXPECT_EQ(task(method, false).problem(), std::nullopt);
    const ClipRange clip = method == ActivationObserver::mse ? mse_clip_range(histogram, 256)
                                                             : entropy_clip_range(histogram, 256);
    const InputQuantizer result = found(task(method, false), x);
    EXPECT_FLOAT_EQ(result.scale, (clip.high - clip.low) / 255);
    EXPECT_EQ(result.zero_point, static_cast<int>(std::nearbyint(-128 - clip.low / result.scale)));
    EXPECT_LT(result.scale, 1.01 * found(task(ActivationObserver::minmax, false), x).scale);
  }
  const auto error = [&](bool symmetric) {
    const InputQuantizer q = found(task(ActivationObserver::mse, symmetric), x);
    const at::Tensor code = (x / q.scale + q.zero_point).round().clamp(-128, 127);
    return ((code - q.zero_point) * q.scale - x).square().mean().item<double>();
  };
  EXPECT_LT(error(false), 0.5 * error(true)) << "half of a symmetric grid is of no use here";
}

TEST(RecoveredStatistics, TakeThePlaceOfThoseThatADivisionLost) {
  const at::Tensor x = values(), scales = at::linspace(0.5, 3, 20);
  InputStats stats = collect(x, 100).with_inputs_divided(scales);
  EXPECT_EQ(stats.lost, kLostByDivision);
  const StatSet some{.outliers = true, .distribution = true};
  stats.recover(some, collect(x / scales, 70, some));
  EXPECT_EQ(stats.lost, kLostByDivision - some);
  const InputStats direct = collect(x / scales, 100);
  EXPECT_TRUE(same_bits(stats.outliers, direct.outliers));
  EXPECT_EQ(stats.distribution->quantile(0.9), direct.distribution->quantile(0.9));
  EXPECT_THROW(stats.recover({.token_min_max = true}, collect(x, 100, some)), InternalError);
  EXPECT_THROW(stats.recover({.token_min_max = true}, collect(x.slice(0, 1), 100)), InternalError);
}

}  // namespace
}  // namespace lathe
