// Algorithms on floating-point grids: RTN, what its linears share, and folds in front of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

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
        Scheme::of_floats("mxfp8"), Scheme::of_floats("mxint8"), Scheme::of_floats("fp8_e5m2"),
        Scheme::of_floats("fp8_e4m3", 1, 64)}) {
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
  for (const char* solver : {"hqq", "spqr", "float"})
    EXPECT_NE(solver_row(solver).refuses(kNvfp4), std::nullopt) << solver;
}

const Scheme kMxfp4 = Scheme::of_floats("mxfp4");

std::vector<Scheme> every_grid() {
  return {kNvfp4,
          kMxfp4,
          Scheme::of_floats("mxfp6_e2m3"),
          Scheme::of_floats("mxfp8"),
          Scheme::of_floats("mxint8"),
          kTensor,
          kBlocks,
          kChannel,
          Scheme::of_floats("fp8_e5m2")};
}

std::vector<SolveResult> gptq(const std::vector<LinearProblem>& linears, const InputStats& stats,
                              const std::map<std::string, OptionValue>& values = {}) {
  const SolverEntry& row = solver_row("gptq");
  Options options(row.options);
  for (const auto& [name, value] : values) options.set(name, value);
  SharedInputProblem shared;
  shared.linears = linears;
  shared.stats = &stats;
  return row.make(options)->solve(shared);
}

/// Of correlated inputs, a few of them larger.
InputStats gram_of(int64_t width) {
  const at::Tensor mixing = at::randn({width, width}) / std::sqrt(double(width)) + at::eye(width);
  return testing_problems::stats_of(testing_problems::tokens_with_outliers(4 * width, width, 4).mm(mixing));
}

TEST(FloatGptq, OfUncorrelatedInputsRoundsToNearest) {
  at::manual_seed(11);
  const std::vector<at::Tensor> weights = {at::randn({130, 256}), at::randn({40, 256}) * 2};
  InputStats stats;
  stats.tokens = 1;
  stats.gram = at::diag(at::rand({256}) + 0.5);
  stats.mean_square = stats.gram.diagonal().contiguous();
  for (const Scheme& scheme : every_grid()) {
    const std::vector<LinearProblem> linears = {linear("a", LinearRole::gate_proj, weights[0], scheme),
                                                linear("b", LinearRole::up_proj, weights[1], scheme)};
    for (const char* range : {"minmax", "weighted"}) {
      SCOPED_TRACE(scheme.describe() + " " + range);
      const auto expected = solve(linears, range, &stats);
      for (const std::string order : {"none", "desc", "gar"}) {
        const auto found = gptq(linears, stats, {{"range", std::string(range)}, {"act_order", order}});
        for (size_t i = 0; i < 2; ++i) {
          const QuantizedTensor &one = found[i].quantized, &other = expected[i].quantized;
          EXPECT_TRUE(one.codes.equal(other.codes)) << order;
          EXPECT_TRUE(one.scales.equal(other.scales)) << order;
          EXPECT_EQ(one.scale_dtype, other.scale_dtype);
          ASSERT_EQ(one.global_scale.defined(), scheme.has_global_scale());
          if (one.global_scale.defined()) {
            EXPECT_TRUE(one.global_scale.equal(other.global_scale));
          }
        }
      }
    }
  }
}

TEST(FloatGptq, LowersTheOutputErrorOnEveryGrid) {
  at::manual_seed(12);
  const InputStats stats = gram_of(256);
  InputStats weighted = stats;
  weighted.mean_square = stats.gram.diagonal().contiguous();
  const at::Tensor weight = at::randn({140, 256});
  for (const Scheme& scheme : every_grid()) {
    SCOPED_TRACE(scheme.describe());
    const std::vector<LinearProblem> problem = {linear("l", LinearRole::up_proj, weight, scheme)};
    const auto loss = [&](const std::vector<SolveResult>& results) {
      const at::Tensor d = results.front().quantized.dequantize() - weight;
      return d.mm(stats.gram).mul(d).sum().item<double>();
    };
    const double nearest = loss(solve(problem, "weighted", &weighted));
    EXPECT_LT(loss(gptq(problem, stats)), 0.7 * nearest);
    EXPECT_LT(loss(gptq(problem, stats, {{"act_order", std::string("gar")}})), 0.7 * nearest);
    if (scheme.shares_rows()) continue;
    EXPECT_LT(loss(gptq(problem, stats, {{"act_order", std::string("gar")}, {"static_groups", false}})),
              0.7 * nearest);
  }
}

TEST(FloatGptq, LinearsOfOneInputShareTheScaleOfTheTensor) {
  at::manual_seed(13);
  const InputStats stats = gram_of(64);
  for (const bool static_groups : {true, false}) {
    for (const Scheme& scheme : {kNvfp4, kTensor}) {
      if (scheme.shares_rows() && !static_groups) continue;
      const auto results =
          gptq({linear("q", LinearRole::q_proj, at::randn({32, 64}), scheme),
                linear("other", LinearRole::o_proj, at::randn({16, 64}), {"int", 4, 32, true}),
                linear("k", LinearRole::k_proj, at::randn({16, 64}) * 3, scheme)},
               stats, {{"act_order", std::string("gar")}, {"static_groups", static_groups}});
      const QuantizedTensor &q = results[0].quantized, &k = results[2].quantized;
      EXPECT_TRUE(scheme.has_global_scale() ? q.global_scale.equal(k.global_scale)
                                            : q.scales.equal(k.scales) && q.scales.numel() == 1);
      EXPECT_FALSE(results[1].quantized.global_scale.defined());
      const at::Tensor codes = k.scales.to(at::kFloat8_e4m3fn).to(at::kFloat);
      EXPECT_TRUE(!scheme.has_global_scale() || codes.equal(k.scales));
    }
  }
}

TEST(FloatGptq, RefusalsSayWhatToDo) {
  const InputStats stats = gram_of(128);
  const auto refused = [&](const Scheme& scheme, const char* order, const char* text) {
    testing_problems::expect_refused(
        [&](const LinearProblem& problem) {
          gptq({problem}, stats, {{"act_order", std::string(order)}, {"static_groups", false}});
        },
        linear("l", LinearRole::up_proj, at::randn({128, 128}), scheme), text);
  };
  refused(kBlocks, "gar", "fp8_e4m3 block 128x128 span rows; use static_groups: true");
  refused(kTensor, "none", "fp8_e4m3 tensor span rows");
  refused(kNvfp4, "desc", "no format holds for nvfp4 g16; use act_order gar");
  at::Tensor damaged = at::randn({4, 128});
  damaged[2][20] = NAN;
  testing_problems::expect_refused([&](const LinearProblem& problem) { gptq({problem}, stats); },
                                   linear("damaged", LinearRole::up_proj, damaged, kMxfp4), "row 2");
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
