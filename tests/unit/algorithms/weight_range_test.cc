#include "algorithms/weight_range.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>

#include "calib/stats/clip.h"
#include "lib/base/error.h"
#include "lib/kernels/group_quant.h"
#include "tests/unit/algorithms/problems.h"

namespace lathe {
namespace {

GroupRange range_of(const at::Tensor& weight, const Scheme& scheme, const RangeChoice& choice) {
  return weight_range(weight, scheme, DType::F16, choice, "model.layers.0.mlp.up_proj");
}

/// Squared rounding error of each row and group.
at::Tensor group_error(const at::Tensor& weight, const Scheme& scheme, const GroupRange& range) {
  const kernels::GroupParams params = kernels::group_params(range, scheme, DType::F16);
  const at::Tensor delta = kernels::group_fake_quantize(weight, params, scheme) - weight;
  return delta.view({weight.size(0), scheme.groups(weight.size(1)), -1}).square().sum(2);
}

std::vector<Scheme> some_schemes() {
  return {{"int", 4, 32, true}, {"int", 3, 128, false}, {"int", 2, -1, true}, {"int", 8, -1, false}};
}

TEST(WeightRange, MinmaxIsTheGroupsExtent) {
  at::manual_seed(1);
  const at::Tensor weight = at::randn({5, 256});
  for (const Scheme& scheme : some_schemes()) {
    const GroupRange range = range_of(weight, scheme, {}), extent = kernels::group_min_max(weight, scheme);
    EXPECT_TRUE(at::equal(range.lo, extent.lo) && at::equal(range.hi, extent.hi));
  }
}

TEST(WeightRange, MseNeverGivesAGroupMoreErrorThanMinmax) {
  at::manual_seed(2);
  const at::Tensor weight = at::randn({40, 512}) * at::randn({40, 1}).exp();
  for (const Scheme& scheme : some_schemes()) {
    const at::Tensor plain = group_error(weight, scheme, range_of(weight, scheme, {}));
    const GroupRange range = range_of(weight, scheme, {.method = RangeMethod::mse});
    const at::Tensor searched = group_error(weight, scheme, range);
    EXPECT_TRUE((searched <= plain).all().item<bool>()) << scheme.describe();
    const double gain = scheme.bits < 8 ? 0.95 : 1;
    EXPECT_LE(searched.sum().item<double>(), gain * plain.sum().item<double>()) << scheme.describe();
  }
}

TEST(WeightRange, MseTakesTheBestFactorOfItsGrid) {
  at::manual_seed(3);
  const Scheme scheme{"int", 3, 64, false};
  const at::Tensor weight = at::randn({6, 128});
  const RangeChoice choice{.method = RangeMethod::mse, .steps = 8, .max_shrink = 0.4};
  const at::Tensor found = group_error(weight, scheme, range_of(weight, scheme, choice));
  const GroupRange full = kernels::group_min_max(weight, scheme);
  at::Tensor best = at::full_like(found, INFINITY);
  for (int step = 0; step <= 8; ++step) {
    const double factor = 1 - 0.05 * step;
    best = at::minimum(best, group_error(weight, scheme, {full.lo * factor, full.hi * factor}));
  }
  EXPECT_TRUE(at::allclose(found, best, 1e-5));
}

TEST(WeightRange, WeightedCountsColumnsByTheirImportance) {
  at::manual_seed(30);
  const Scheme scheme{"int", 3, 32, true};
  const at::Tensor weight = at::randn({20, 96}), importance = at::randn({96}).mul(2).exp();
  const auto error = [&](const GroupRange& range) {
    const kernels::GroupParams params = kernels::group_params(range, scheme, DType::F16);
    const at::Tensor delta = kernels::group_fake_quantize(weight, params, scheme) - weight;
    return (delta.square() * importance).view({20, 3, 32}).sum(2);
  };
  const RangeChoice choice{.method = RangeMethod::weighted};
  const GroupRange weighted = weight_range(weight, scheme, DType::F16, choice, "l", importance);
  const GroupRange plain = range_of(weight, scheme, {.method = RangeMethod::mse});
  EXPECT_TRUE((error(weighted) <= error(plain) * 1.0001).all().item<bool>());
  EXPECT_LT(error(weighted).sum().item<double>(), 0.9 * error(plain).sum().item<double>());
  const GroupRange equal = weight_range(weight, scheme, DType::F16, choice, "l", at::full({96}, 4.0f));
  EXPECT_TRUE(at::equal(equal.lo, plain.lo) && at::equal(equal.hi, plain.hi))
      << "powers of two change nothing";
}

TEST(WeightRange, RtnWeightsErrorsByTheMeanSquareOfItsInput) {
  at::manual_seed(31);
  const SolverEntry& row = testing_problems::solver_row("rtn");
  Options options(row.options);
  EXPECT_EQ(row.make(options)->needs(), StatSet{});
  options.set("range", std::string("weighted"));
  EXPECT_EQ(row.make(options)->needs(), StatSet{.mean_square = true});
  const at::Tensor x = testing_problems::tokens_with_outliers(500, 256, 12);
  InputStats stats;
  stats.mean_square = x.square().mean(0);
  SharedInputProblem problem;
  problem.stats = &stats;
  problem.linears = {
      testing_problems::linear("l", LinearRole::up_proj, at::randn({32, 256}), {"int", 3, 64, false})};
  const at::Tensor& weight = problem.linears.front().weight;
  const auto loss = [&] {
    return testing_problems::token_loss(weight,
                                        row.make(options)->solve(problem).front().quantized.dequantize(), x);
  };
  const double weighted = loss();
  options.set("range", std::string("mse"));
  EXPECT_LT(weighted, 0.8 * loss());
}

TEST(WeightRange, PercentileCutsThePartItNames) {
  at::manual_seed(4);
  const at::Tensor weight = at::randn({3, 1000});
  const RangeChoice choice{.method = RangeMethod::percentile, .percentile = 99};
  const GroupRange symmetric = range_of(weight, {"int", 4, -1, true}, choice);
  const at::Tensor end = at::maximum(-symmetric.lo, symmetric.hi);
  EXPECT_TRUE(at::equal((weight.abs() > end).sum(1), at::full({3}, 10, at::kLong)));
  const GroupRange ends = range_of(weight, {"int", 4, -1, false}, choice);
  EXPECT_TRUE(at::equal((weight > ends.hi).sum(1), at::full({3}, 10, at::kLong)));
  EXPECT_TRUE(at::equal((weight < ends.lo).sum(1), at::full({3}, 10, at::kLong)));
}

TEST(WeightRange, APercentileThatLeavesOutLessThanAValueIsRefusedByItsKey) {
  at::manual_seed(5);
  const at::Tensor weight = at::randn({4, 1000});
  const auto message = [&](double percentile, int64_t group_size) {
    try {
      range_of(weight, {"int", 4, group_size, true},
               {.method = RangeMethod::percentile, .percentile = percentile});
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const std::string error = message(99.9, 125);
  EXPECT_THAT(error, testing::HasSubstr("model.layers.0.mlp.up_proj: range percentile with percentile 99.9"));
  EXPECT_THAT(error, testing::HasSubstr("125 weights"));
  EXPECT_THAT(error, testing::HasSubstr("at most 99.2,"));
  EXPECT_EQ(message(99.2, 125), "") << "what the message advises";
  EXPECT_EQ(message(99.9, -1), "") << "one of 1000";
  EXPECT_NE(message(99.95, -1), "");
  EXPECT_NE(message(100, -1), "");
}

TEST(WeightRange, MethodsAreThoseThatTheOptionTakes) {
  std::vector<std::string> names;
  for (const RangeMethodRow& row : range_methods()) {
    names.emplace_back(row.name);
    Options options(range_options());
    options.set("range", names.back());
    EXPECT_EQ(range_choice(options).method, row.method);
  }
  EXPECT_EQ(names.size(), 5u);
  EXPECT_EQ(range_options().front().choices, names);
}

TEST(WeightRange, SummariesNameTheShortestGroupsThatTheDefaultsTake) {
  for (const RangeMethodRow& row : range_methods()) {
    Options options(range_options());
    options.set("range", std::string(row.name));
    const RangeChoice choice = range_choice(options);
    int64_t shortest = 1;
    while (range_refuses(choice, shortest)) ++shortest;
    const std::string said = fmt::format("groups of {} and more", shortest);
    EXPECT_EQ(std::string(row.summary).find(said) != std::string::npos, shortest > 1)
        << row.name << ", " << said;
    EXPECT_EQ(std::string(row.summary).find("groups of") != std::string::npos, shortest > 1) << row.name;
  }
}

/// The symmetric grid's largest level stands where the clip is, or the grid spans all values.
TEST(WeightRange, KlIsTheEntropyClipOfEachRow) {
  at::manual_seed(6);
  at::Tensor weight = at::randn({7, 4096});
  weight.select(1, 9).mul_(15);
  for (const bool symmetric : {true, false}) {
    const GroupRange range = range_of(weight, {"int", 8, -1, symmetric}, {.method = RangeMethod::kl});
    for (int64_t row = 0; row < 7; ++row) {
      const at::Tensor values = weight[row];
      const Histogram histogram = magnitude_histogram(values.const_data_ptr<float>(), 4096);
      const auto clip = static_cast<float>(entropy_clip(histogram, integer_levels(8)).magnitude);
      const float end = symmetric ? clip * (127.5f / 127) : clip;
      EXPECT_FLOAT_EQ(range.hi[row][0].item<float>(), std::min(end, values.max().item<float>()));
      EXPECT_FLOAT_EQ(range.lo[row][0].item<float>(), std::max(-end, values.min().item<float>()));
      if (!symmetric || end >= values.abs().max().item<float>()) continue;
      const kernels::GroupParams grid = kernels::group_params(range, {"int", 8, -1, true}, DType::F32);
      EXPECT_NEAR(grid.scales[row][0].item<float>() * 127, clip, clip * 1e-5);
    }
  }
}

TEST(WeightRange, KlRefusesShortGroupsByName) {
  try {
    range_of(at::randn({2, 256}), {"int", 4, 128, true}, {.method = RangeMethod::kl});
    FAIL() << "made a histogram of 128 values";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("model.layers.0.mlp.up_proj: range kl"));
    EXPECT_THAT(error.what(), testing::HasSubstr("128"));
  }
}

TEST(WeightRange, ABadGroupKeepsANanRangeAndZerosAnEmptyOne) {
  for (const RangeMethod method : {RangeMethod::minmax, RangeMethod::percentile, RangeMethod::mse,
                                   RangeMethod::weighted, RangeMethod::kl}) {
    at::Tensor weight = at::randn({3, 1024});
    weight[1][600] = NAN;
    weight[2].zero_();
    const GroupRange range = weight_range(weight, {"int", 4, 512, true}, DType::F16,
                                          {.method = method, .percentile = 90}, "l", at::ones({1024}));
    EXPECT_TRUE(std::isnan(range.lo[1][1].item<float>()) && std::isnan(range.hi[1][1].item<float>()));
    EXPECT_TRUE(at::isfinite(range.lo[1][0]).item<bool>() && at::isfinite(range.lo[0]).all().item<bool>());
    EXPECT_EQ(range.lo[2][0].item<float>(), 0);
    EXPECT_EQ(range.hi[2][0].item<float>(), 0);
  }
}

TEST(WeightRange, RtnTakesItsOptionUnlessATransformOffersARange) {
  at::manual_seed(7);
  const SolverEntry& row = testing_problems::solver_row("rtn");
  Options options(row.options);
  options.set("range", std::string("mse"));
  SharedInputProblem problem;
  problem.linears = {
      testing_problems::linear("l", LinearRole::up_proj, at::randn({16, 256}), {"int", 3, 64, true})};
  const LinearProblem& linear = problem.linears.front();
  const auto solve = [&] { return row.make(options)->solve(problem).front().quantized; };
  const QuantizedTensor searched = solve();
  const at::Tensor plain = testing_problems::round_to_nearest(linear);
  EXPECT_LT((searched.dequantize() - linear.weight).square().sum().item<double>(),
            0.9 * (plain - linear.weight).square().sum().item<double>());
  problem.linears.front().range = kernels::group_min_max(linear.weight, linear.scheme);
  EXPECT_TRUE(at::equal(solve().dequantize(), plain));
}

}  // namespace
}  // namespace lathe
