// Inputs that a solver meets once a year: GPTQ gives a right answer or says what is wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "algorithms/gptq.h"
#include "algorithms/gram_place.h"
#include "algorithms/inverse_factor.h"
#include "lib/base/error.h"
#include "lib/base/process_memory.h"
#include "lib/tensor/block_allocator.h"
#include "tests/unit/algorithms/problems.h"

namespace lathe {
namespace {

using testing_problems::linear;
using testing_problems::solver_row;

const Scheme kScheme{"int", 4, 16, false};

SolveResult solve(const at::Tensor& weight, const InputStats& stats, const Scheme& scheme = kScheme,
                  DType scale_dtype = DType::F16, const std::map<std::string, OptionValue>& values = {}) {
  Options options(gptq_options());
  for (const auto& [name, value] : values) options.set(name, value);
  SharedInputProblem problem;
  problem.linears = {linear("model.layers.0.mlp.up_proj", LinearRole::up_proj, weight, scheme)};
  problem.linears.front().scale_dtype = scale_dtype;
  problem.stats = &stats;
  SolveResult result = solver_row("gptq").make(options)->solve(problem).front();
  EXPECT_TRUE(at::isfinite(result.quantized.dequantize()).all().item<bool>());
  return result;
}

InputStats some_stats(int64_t tokens = 200, int64_t width = 64) {
  return testing_problems::stats_of(at::randn({tokens, width}).mm(at::randn({width, width})));
}

InputStats stats_with(at::Tensor gram) {
  InputStats stats;
  stats.gram = std::move(gram);
  return stats;
}

template <class Call>
std::string refusal(const Call& call) {
  try {
    call();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(GptqInput, ZeroRowsAndConstantGroupsKeepTheirValues) {
  at::manual_seed(1);
  at::Tensor weight = at::randn({6, 64});
  weight[2].zero_();
  weight[4].slice(0, 16, 32).fill_(0.5);
  const SolveResult result = solve(weight, some_stats());
  EXPECT_TRUE(result.events.empty());
  EXPECT_EQ(result.quantized.dequantize()[2].abs().max().item<float>(), 0);
  at::Tensor constant = at::full({3, 64}, 0.5f);
  const at::Tensor values = solve(constant, some_stats()).quantized.dequantize();
  EXPECT_TRUE(at::allclose(values, constant, 1e-3));
}

TEST(GptqInput, DenormalWeightsAreAsGoodAsZeros) {
  at::manual_seed(2);
  const at::Tensor weight = at::randn({4, 64}) * 1e-41;
  EXPECT_EQ(solve(weight, some_stats()).quantized.dequantize().abs().max().item<float>(), 0);
}

TEST(GptqInput, HugeWeightsAreRefusedByName) {
  at::manual_seed(3);
  at::Tensor weight = at::randn({4, 64});
  weight[1][17] = 1e7;
  EXPECT_THAT(refusal([&] { solve(weight, some_stats()); }),
              testing::StartsWith("model.layers.0.mlp.up_proj: row 1, group 1: weights from "));
  const InputStats stats = some_stats();
  weight[1][17] = 1e30;  // fits into BF16 scales
  EXPECT_EQ(refusal([&] { solve(weight, stats, kScheme, DType::BF16); }), "");
  weight[1][18] = -3e38;
  weight[1][19] = 3e38;
  EXPECT_THAT(refusal([&] { solve(weight, stats, kScheme, DType::BF16); }),
              testing::HasSubstr("row 1, group 1: weights from -3e+38 to 3e+38 need a scale beyond BF16"));
  // Each weight has a code, but what is fed back overflows.
  const InputStats large = stats_with(stats.gram * 1e8);
  EXPECT_THAT(refusal([&] {
                solve(at::randn({4, 64}) * 1e36, large, kScheme, DType::BF16);
              }),
              testing::HasSubstr("too large to make up for each other's rounding errors"));
}

TEST(GptqInput, NanInWeightOrGramIsRefused) {
  at::manual_seed(4);
  at::Tensor weight = at::randn({4, 64});
  weight[3][33] = NAN;
  EXPECT_THAT(refusal([&] { solve(weight, some_stats()); }), testing::HasSubstr("row 3, group 2"));
  InputStats stats = some_stats();
  stats.gram = stats.gram.clone();
  stats.gram[5][6] = NAN;
  EXPECT_THAT(refusal([&] { solve(at::randn({4, 64}), stats); }), testing::HasSubstr("Gram matrix"));
}

TEST(GptqInput, FewerTokensThanChannelsAreSolvedByDamping) {
  at::manual_seed(5);
  const at::Tensor x = at::randn({5, 64}), weight = at::randn({16, 64});
  const InputStats stats = testing_problems::stats_of(x);
  const SolveResult result = solve(weight, stats);
  EXPECT_TRUE(result.events.empty());
  const at::Tensor plain =
      testing_problems::round_to_nearest(linear("l", LinearRole::up_proj, weight, kScheme));
  EXPECT_LT(testing_problems::token_loss(weight, result.quantized.dequantize(), x),
            0.2 * testing_problems::token_loss(weight, plain, x));
}

TEST(GptqInput, WithoutDampingASingularHessianClimbsTheLadder) {
  at::manual_seed(6);
  const at::Tensor x = at::randn({5, 64}), weight = at::randn({16, 64});
  const InputStats stats = testing_problems::stats_of(x);
  const SolveResult result = solve(weight, stats, kScheme, DType::F16, {{"damping", 0.0}});
  ASSERT_EQ(result.events.size(), 1u);
  EXPECT_THAT(result.events.front(), testing::HasSubstr("damping raised to 0.001"));
}

TEST(GptqInput, ChannelsWithoutASignalBecomeZeroAndAreReported) {
  at::manual_seed(7);
  at::Tensor x = at::randn({300, 64});
  x.select(1, 3).zero_();
  x.select(1, 40).zero_();
  at::Tensor weight = at::randn({8, 64});
  weight.select(1, 3).fill_(50);  // would stretch the range of its group
  for (const std::string order : {"none", "desc", "gar"}) {
    const SolveResult result =
        solve(weight, testing_problems::stats_of(x), kScheme, DType::F16, {{"act_order", order}});
    const at::Tensor values = result.quantized.dequantize();
    EXPECT_EQ(values.select(1, 3).abs().max().item<float>(), 0);
    EXPECT_EQ(values.select(1, 40).abs().max().item<float>(), 0);
    EXPECT_LT(result.quantized.scales.max().item<float>(), 1);
    ASSERT_EQ(result.events.size(), 1u);
    EXPECT_THAT(result.events.front(), testing::HasSubstr("2 of 64 input channels"));
  }
  const SolveResult nothing = solve(weight, testing_problems::stats_of(at::zeros({20, 64})));
  EXPECT_EQ(nothing.quantized.dequantize().abs().max().item<float>(), 0);
  EXPECT_THAT(nothing.events.front(), testing::HasSubstr("64 of 64"));
}

TEST(GptqInput, OneRowAndOneColumn) {
  at::manual_seed(8);
  EXPECT_EQ(solve(at::randn({1, 64}), some_stats()).quantized.codes.sizes(), (std::vector<int64_t>{1, 64}));
  const at::Tensor column = at::randn({5, 1});
  const at::Tensor values =
      solve(column, testing_problems::stats_of(at::randn({9, 1})), {"int", 4, -1, false})
          .quantized.dequantize();
  EXPECT_TRUE(at::allclose(values, column, 1e-3));
  solve(at::randn({1, 1}), testing_problems::stats_of(at::randn({9, 1})), {"int", 2, 1, true});
}

TEST(GptqInput, AGroupSizeThatDoesNotDivideIsRefused) {
  EXPECT_THAT(refusal([&] {
                solve(at::randn({4, 64}), some_stats(), {"int", 4, 48, true});
              }),
              testing::HasSubstr("group_size 48 does not divide rows of 64"));
}

TEST(InverseFactor, IsTheUpperFactorOfTheInverse) {
  at::manual_seed(9);
  for (const int64_t n : {1, 2, 17, 300, 700}) {
    const at::Tensor x = at::randn({2 * n + 3, n}, at::kDouble);
    const at::Tensor matrix = x.t().mm(x) / (2 * n);
    const at::Tensor upper = inverse_factor(matrix.clone()).value();
    EXPECT_TRUE(at::equal(upper, upper.triu()));
    EXPECT_TRUE((upper.diagonal() > 0).all().item<bool>());
    EXPECT_TRUE(at::allclose(upper.t().mm(upper).mm(matrix), at::eye(n, at::kDouble), 1e-6, 1e-8)) << n;
  }
  EXPECT_FALSE(inverse_factor(-at::eye(4)).has_value());
  EXPECT_FALSE(inverse_factor(at::ones({4, 4})).has_value());
}

/// Its smallest pivot, 2^-23, is within FP32's rounding errors.
at::Tensor almost_singular() {
  at::Tensor matrix = at::eye(8);
  matrix[0][1] = matrix[1][0] = 1.0f - 6e-8f;
  return matrix;
}

TEST(InverseFactor, TheLaddersStepsAreTakenInOrderAndSaid) {
  const DampedFactor plain = damped_inverse_factor(at::eye(8), at::arange(8), 0.01);
  EXPECT_TRUE(plain.events.empty());
  EXPECT_EQ(plain.damping, 0.01);
  const DampedFactor raised = damped_inverse_factor(almost_singular(), at::arange(8), 0);
  ASSERT_EQ(raised.events.size(), 1u);
  EXPECT_THAT(raised.events.front(), testing::HasSubstr("damping raised to 0.001"));
  EXPECT_FALSE(raised.diagonal);
  // Not enough at first: each damping that failed is said.
  at::Tensor worse = at::eye(8);
  worse[0][1] = worse[1][0] = 1.003f;
  const DampedFactor twice = damped_inverse_factor(worse, at::arange(8), 0.001);
  ASSERT_EQ(twice.events.size(), 1u);
  EXPECT_THAT(twice.events.front(),
              testing::HasSubstr("with damping 0.001 and 0.002: damping raised to 0.004"));
  // Indefinite by far: nothing but the diagonal is left.
  at::Tensor indefinite = at::eye(8);
  indefinite[0][1] = indefinite[1][0] = 5;
  const DampedFactor diagonal = damped_inverse_factor(indefinite, at::arange(8), 0.01);
  EXPECT_TRUE(diagonal.diagonal);
  ASSERT_EQ(diagonal.events.size(), 1u);
  EXPECT_THAT(diagonal.events.front(),
              testing::AllOf(
                  testing::HasSubstr("with damping 0.01, 0.02, 0.04, 0.08 and 0.16 in FP32, nor with 0.01 in "
                                     "FP64"),
                  testing::HasSubstr("only its diagonal was used")));
  EXPECT_TRUE(at::allclose(diagonal.upper, at::eye(8) / std::sqrt(1.01)));

  // A damped diagonal beyond FP32's largest number, 3.4e38.
  const at::Tensor large = at::eye(8).mul_(3.3e38).add_(1e36);
  const DampedFactor wide = damped_inverse_factor(large, at::arange(8), 0.05);
  EXPECT_FALSE(wide.diagonal);
  EXPECT_EQ(wide.damping, 0.05);
  ASSERT_EQ(wide.events.size(), 1u);
  EXPECT_THAT(wide.events.front(),
              testing::HasSubstr("with damping 0.05, 0.1, 0.2, 0.4 and 0.8: factorised in FP64 with 0.05"));
  at::Tensor damped = large.to(at::kDouble);
  damped.diagonal().add_(0.05 * damped.diagonal().mean());
  const at::Tensor upper = wide.upper.to(at::kDouble);
  EXPECT_LT((upper.t().mm(upper).mm(damped) - at::eye(8, at::kDouble)).abs().max().item<double>(), 1e-5);
}

/// Beyond FP32 with any damping, but sound in FP64.
at::Tensor too_large_for_fp32(int64_t size) {
  at::manual_seed(10);
  const at::Tensor x = at::randn({2 * size, size});
  at::Tensor matrix = x.t().mm(x).div_(2 * size).mul_(1e38);
  matrix.diagonal().add_(2.2e38);
  return matrix;
}

/// The same matrix factorised as it stands beside the factor, and in its place; each step of the ladder.
TEST(InverseFactor, InTheMatrixsPlaceItHasTheSameBitsAndGivesTheMatrixBack) {
  at::manual_seed(11);
  at::Tensor indefinite = at::eye(8);
  indefinite[0][1] = indefinite[1][0] = 5;
  const at::Tensor x = at::randn({700, 300});
  const struct {
    at::Tensor gram;
    double damping;
  } cases[] = {{x.t().mm(x).div_(700).contiguous(), 0.01},
               {almost_singular(), 0},
               {too_large_for_fp32(300), 0.2},
               {indefinite, 0.01}};
  for (const auto& [matrix, damping] : cases) {
    const int64_t n = matrix.size(0);
    const at::Tensor order = at::randperm(n, at::kLong), channels = at::zeros({n}, at::kBool);
    channels[2].fill_(true);
    for (const Uncorrelated& apart : {Uncorrelated{}, Uncorrelated{channels, matrix.diagonal() * 0.9}}) {
      at::Tensor gram = matrix.clone();
      const DampedFactor expected = damped_inverse_factor(gram, order, damping, apart);
      GramPlace place(gram, order, std::filesystem::temp_directory_path());
      {
        const DampedFactor found = damped_inverse_factor(place, damping, apart);
        EXPECT_TRUE(at::equal(found.upper, expected.upper)) << n;
        EXPECT_EQ(found.upper.data_ptr(), gram.data_ptr()) << "it has a place of its own";
        EXPECT_EQ(found.events, expected.events);
        EXPECT_EQ(found.damping, expected.damping);
        EXPECT_EQ(found.diagonal, expected.diagonal);
      }
      place.give_back();
      EXPECT_TRUE(at::equal(gram, matrix)) << n;
    }
  }
}

TEST(InverseFactor, InStepsItIsThatOfHalves) {
  at::manual_seed(12);
  const int64_t n = 900;
  const at::Tensor x = at::randn({2 * n, n}, at::kDouble), gram = x.t().mm(x).div_(2 * n).contiguous();
  const FactorSteps steps{.wide = 600, .step = 100, .halved = 400};
  const at::Tensor expected = inverse_factor(gram.clone()).value();
  const at::Tensor found = inverse_factor(gram.clone(), steps).value();
  EXPECT_TRUE(at::equal(found, found.triu()));
  EXPECT_LT((found - expected).abs().max().item<double>(), 1e-12);
  EXPECT_FALSE(at::equal(found, expected)) << "they were the same steps";
}

TEST(InverseFactor, InFp64ItIsThatOfTheReorderedMatrixWithChannelsApart) {
  for (const int64_t n : {3, 256, 300, 700}) {
    const at::Tensor matrix = too_large_for_fp32(n), order = at::randperm(n, at::kLong);
    const at::Tensor channels = at::zeros({n}, at::kBool);
    channels[1].fill_(true);
    const Uncorrelated apart{channels, at::full({n}, 3.1e38f)};
    const DampedFactor found = damped_inverse_factor(matrix, order, 0.2, apart);
    ASSERT_EQ(found.events.size(), 1u) << n;
    EXPECT_THAT(found.events.front(), testing::HasSubstr("factorised in FP64 with 0.2"));
    at::Tensor whole = matrix.to(at::kDouble);
    whole[1].zero_();
    whole.select(1, 1).zero_();
    whole[1][1] = static_cast<double>(3.1e38f);
    whole = whole.index_select(0, order).index_select(1, order);
    whole.diagonal().add_(0.2 * whole.diagonal().mean());
    EXPECT_TRUE(at::equal(found.upper, found.upper.triu())) << n;
    const at::Tensor expected = inverse_factor(whole.contiguous()).value();
    EXPECT_LT((found.upper.to(at::kDouble) - expected).abs().max().item<double>(),
              1e-6 * expected.abs().max().item<double>())
        << n;
  }
}

TEST(InverseFactor, InFp64ItTakesNoMoreThanIsPlanned) {
  map_large_blocks();
  use_block_allocator();
  damped_inverse_factor(too_large_for_fp32(600), at::arange(600, at::kLong), 0.2);  // libraries' own buffers
  const int64_t n = 2400;
  const at::Tensor matrix = too_large_for_fp32(n), order = at::arange(n, at::kLong);
  // A process's peak starts anew where the kernel lets it.
  if (!(std::ofstream("/proc/self/clear_refs") << "5" << std::flush)) GTEST_SKIP() << "no peak to measure";
  release_free_memory();
  const uint64_t before = resident_bytes();
  if (peak_rss_bytes() > before + (8 << 20)) GTEST_SKIP() << "the peak can't be set back";
  const DampedFactor found = damped_inverse_factor(matrix, order, 0.2);
  ASSERT_THAT(found.events, testing::ElementsAre(testing::HasSubstr("factorised in FP64")));
  const uint64_t taken = std::max(peak_rss_bytes(), before) - before;
  EXPECT_LE(taken, damped_inverse_factor_bytes(n) + (8 << 20));
  EXPECT_LE(damped_inverse_factor_bytes(n), uint64_t{2} * 4 * n * n) << "two FP32 matrices";
}

}  // namespace
}  // namespace lathe
