// Algorithms on floating-point grids: RTN, what its linears share, and folds in front of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "algorithms/clip_search.h"
#include "algorithms/rounding_loss.h"
#include "algorithms/tensor_scale.h"
#include "lib/kernels/group_quant.h"
#include "tests/unit/algorithms/problems.h"

namespace lathe {
namespace {

using testing::HasSubstr;
using testing_problems::linear;
using testing_problems::solver_row;

const Scheme kNvfp4 = Scheme::of_floats("nvfp4"), kTensor = Scheme::of_floats("fp8_e4m3", -1, -1),
             kBlocks = Scheme::of_floats("fp8_e4m3", 128, 128), kChannel = Scheme::of_floats("fp8_e4m3");

std::vector<SolveResult> solve(const std::vector<LinearProblem>& linears, const char* range = "minmax",
                               const InputStats* stats = nullptr) {
  const SolverEntry& row = solver_row("rtn");
  Options options(row.options);
  options.set("range", std::string(range));
  SharedInputProblem shared;
  shared.linears = linears;
  shared.stats = stats;
  return row.make(options)->solve(shared);
}

TEST(FloatRtn, GivesTheNearestNumberOfEveryGroup) {
  at::manual_seed(1);
  const at::Tensor weight = at::randn({130, 256});
  for (const Scheme& scheme :
       {kNvfp4, kTensor, kBlocks, kChannel, Scheme::of_floats("mxfp4"), Scheme::of_floats("mxfp6_e2m3"),
        Scheme::of_floats("mxfp8"), Scheme::of_floats("fp8_e5m2"), Scheme::of_floats("fp8_e4m3", 1, 64)}) {
    SCOPED_TRACE(scheme.describe());
    const QuantizedTensor result =
        solve({linear("l", LinearRole::up_proj, weight, scheme)}).front().quantized;
    EXPECT_EQ(result.scheme, scheme);
    const auto [rows, groups] = scheme.parameter_shape(130, 256);
    EXPECT_EQ(result.scales.sizes(), (std::vector<int64_t>{rows, groups}));
    const at::Tensor chosen = (result.dequantize() - weight).abs();
    const FloatFormat& number = scheme.float_grid()->number;
    for (int code = 0; code < number.codes(); ++code) {
      if (!std::isfinite(decode_float(number, static_cast<uint8_t>(code)))) continue;
      QuantizedTensor other = result;
      other.codes = at::full_like(result.codes, static_cast<int8_t>(code));
      ASSERT_TRUE((chosen <= (other.dequantize() - weight).abs() + 1e-6).all().item<bool>()) << code;
    }
  }
}

TEST(FloatRtn, LinearsOfOneInputShareTheScaleOfTheTensor) {
  at::manual_seed(2);
  const at::Tensor q = at::randn({32, 64}), k = at::randn({16, 64}) * 3, v = at::randn({16, 64}) * 0.5;
  for (const Scheme& scheme : {kNvfp4, kTensor}) {
    const auto results =
        solve({linear("q", LinearRole::q_proj, q, scheme), linear("k", LinearRole::k_proj, k, scheme),
               linear("v", LinearRole::v_proj, v, scheme)});
    const auto shared = [&](size_t i) {
      const QuantizedTensor& tensor = results[i].quantized;
      return scheme.has_global_scale() ? tensor.global_scale.item<float>() : tensor.scales.item<float>();
    };
    EXPECT_EQ(shared(0), shared(1));
    EXPECT_EQ(shared(0), shared(2));
    const at::Tensor largest = k.abs().max();
    EXPECT_EQ(shared(0), scheme.has_global_scale() ? kernels::global_scale(largest).item<float>()
                                                   : round_to(largest / 448, DType::F16).item<float>());
  }
}

TEST(FloatRtn, SearchedRangesLowerTheErrorTheyLookAt) {
  at::manual_seed(3);
  const at::Tensor weight = at::randn({32, 128}), x = testing_problems::tokens_with_outliers(256, 128, 10);
  InputStats stats = testing_problems::stats_of(x);
  stats.mean_square = stats.gram.diagonal().contiguous();
  for (const Scheme& scheme : {kNvfp4, Scheme::of_floats("mxfp4"), kChannel}) {
    SCOPED_TRACE(scheme.describe());
    const LinearProblem problem = linear("l", LinearRole::up_proj, weight, scheme);
    const auto error = [&](const char* range, const at::Tensor& share) {
      const at::Tensor delta = solve({problem}, range, &stats).front().quantized.dequantize() - weight;
      return (delta.square() * share).sum().item<double>();
    };
    const at::Tensor ones = at::ones({128});
    EXPECT_LT(error("mse", ones), error("minmax", ones));
    EXPECT_LT(error("weighted", stats.mean_square), error("mse", stats.mean_square));
  }
}

TEST(FloatRtn, RefusalsNameTheLinear) {
  at::Tensor clean = at::randn({4, 32}), damaged = clean.clone();
  damaged[2][20] = NAN;
  for (const Scheme& scheme : {kNvfp4, kTensor}) {
    try {
      solve({linear("clean", LinearRole::q_proj, clean, scheme),
             linear("damaged", LinearRole::k_proj, damaged, scheme)});
      FAIL();
    } catch (const UserError& error) {
      EXPECT_THAT(error.what(), HasSubstr("damaged: row 2"));
    }
  }
  for (const char* solver : {"gptq", "hqq", "spqr", "float"})
    EXPECT_NE(solver_row(solver).refuses(kNvfp4), std::nullopt) << solver;
}

TEST(FloatRtn, WeightsOfZerosHaveAScale) {
  for (const Scheme& scheme : {kNvfp4, kTensor, kChannel, Scheme::of_floats("mxfp4")}) {
    const QuantizedTensor result =
        solve({linear("l", LinearRole::q_proj, at::zeros({2, 32}), scheme)}).front().quantized;
    EXPECT_TRUE((result.scales > 0).all().item<bool>()) << scheme.describe();
    EXPECT_TRUE(result.dequantize().equal(at::zeros({2, 32}))) << scheme.describe();
  }
}

TEST(FloatLoss, IsThatOfRoundingTheScaledWeights) {
  at::manual_seed(4);
  const at::Tensor x = testing_problems::tokens_with_outliers(200, 256, 8);
  const InputStats stats = testing_problems::stats_of(x);
  const at::Tensor scales = at::rand({256}) + 0.5;
  for (const Scheme& scheme : {kNvfp4, kTensor, kBlocks, kChannel, Scheme::of_floats("mxfp4")}) {
    SCOPED_TRACE(scheme.describe());
    const std::vector<LinearProblem> linears = {
        linear("a", LinearRole::gate_proj, at::randn({150, 256}), scheme),
        linear("b", LinearRole::up_proj, at::randn({20, 256}) * 2, scheme)};
    double expected = 0;
    std::vector<LinearProblem> scaled = linears;
    for (LinearProblem& one : scaled) one.weight = one.weight * scales;
    const auto results = solve(scaled);
    for (size_t i = 0; i < linears.size(); ++i)
      expected +=
          testing_problems::token_loss(linears[i].weight, results[i].quantized.dequantize() / scales, x);
    const RoundingLoss loss(linears, stats.gram);
    EXPECT_NEAR(loss.on_device(scales).item<double>(), expected, 1e-4 * expected);
    EXPECT_EQ(loss.up_to(1e30, scales), loss.on_device(scales).item<double>());
  }
}

TEST(FloatLoss, ClippingLowersTheGroupsOwnError) {
  at::manual_seed(5);
  const at::Tensor weight = at::randn({24, 64}), x = testing_problems::tokens_with_outliers(200, 64, 5);
  const InputStats stats = testing_problems::stats_of(x);
  const GroupRange range = search_clip(weight, kNvfp4, DType::F16, stats.gram, {20, 0.5});
  LinearProblem problem = linear("l", LinearRole::up_proj, weight, kNvfp4);
  const auto blocks = [&](const at::Tensor&
                              approximation) {  // H's diagonal blocks alone, as the search has it
    const at::Tensor delta = (approximation - weight).view({24, 4, 16}), h = stats.gram.view({4, 16, 4, 16});
    double sum = 0;
    for (int64_t g = 0; g < 4; ++g) {
      const at::Tensor d = delta.select(1, g);
      sum += d.mm(h.select(0, g).select(1, g)).mul(d).sum().item<double>();
    }
    return sum;
  };
  const double before = blocks(solve({problem}).front().quantized.dequantize());
  problem.range = range;
  EXPECT_LT(blocks(solve({problem}).front().quantized.dequantize()), 0.95 * before);
}

}  // namespace
}  // namespace lathe
