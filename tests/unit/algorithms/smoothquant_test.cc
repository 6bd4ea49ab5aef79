#include "algorithms/smoothquant.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "algorithms/activation_loss.h"
#include "algorithms/smoothquant_reference.h"
#include "lib/base/error.h"
#include "tests/unit/algorithms/problems.h"

namespace lathe {
namespace {

using testing_problems::linear;
using testing_problems::tokens_with_outliers;
using testing_problems::transform_row;

const Scheme kChannel{"int", 8, -1, true};
const ScaleEdge kNormEdge{ScaleEdge::Producer::norm, "norm", {Slot::mlp_in, std::nullopt}, 1, 0};
const ActivationScheme kPerToken{}, kPerTensor{"int", 8, false, ActivationScheme::Per::tensor, true};

std::unique_ptr<Transform> smoothquant(const std::vector<std::pair<std::string, OptionValue>>& changes = {}) {
  Options options(smoothquant_options());
  for (const auto& [name, value] : changes) options.set(name, value);
  return transform_row("smoothquant").make(options);
}

InputStats stats_of(const at::Tensor& x) {
  StatsCollector collector({.gram = true, .min_max = true}, x.size(-1), c10::kCPU, "test input");
  collector.observe(x);
  return collector.finish();
}

/// Gate and up on inputs with outliers, INT8 on both sides.
struct Mlp {
  at::Tensor x, gate, up;
  InputStats stats;
  SharedInputProblem problem;

  explicit Mlp(double outlier = 50, std::optional<ActivationScheme> activations = kPerToken) {
    at::manual_seed(21);
    x = tokens_with_outliers(200, 128, outlier);
    gate = at::randn({40, 128}) * 0.05;
    up = at::randn({24, 128}) * 0.05;
    observe();
    problem.linears = {linear("gate", LinearRole::gate_proj, gate, kChannel),
                       linear("up", LinearRole::up_proj, up, kChannel)};
    for (LinearProblem& each : problem.linears) each.activations = activations;
    problem.stats = &stats;
  }
  void observe() { stats = stats_of(x); }
  at::Tensor weights() const { return at::cat({gate, up}); }
  double real_error(const at::Tensor& scales) const {
    return w8a8_error_reference(x, weights(), scales.to(at::kDouble), kChannel,
                                *problem.linears.front().activations);
  }
};

TEST(SmoothQuantFold, ScalesAreThoseOfEquationFour) {
  const Mlp mlp;
  for (const double alpha : {0.0, 0.35, 0.5, 0.8, 1.0}) {
    const FoldDecision decision = smoothquant({{"alpha", alpha}})->fold(kNormEdge, mlp.problem);
    ASSERT_TRUE(decision.scales.defined());
    EXPECT_EQ(decision.ratio, alpha);
    const at::Tensor expected = smoothquant_scales_reference(mlp.x, mlp.weights(), alpha);
    EXPECT_TRUE(at::allclose(decision.scales.to(at::kDouble), expected, 1e-5, 0)) << alpha;
  }
}

TEST(SmoothQuantFold, AtOneHalfBothSidesHaveOneLargestMagnitude) {
  const Mlp mlp;
  const at::Tensor s = smoothquant()->fold(kNormEdge, mlp.problem).scales;
  const at::Tensor inputs = (mlp.x / s).abs().amax(0), weights = (mlp.weights() * s).abs().amax(0);
  EXPECT_TRUE(at::allclose(inputs, weights, 1e-4, 0));
}

// The model of the activations' step against rounding for real, in FP64, where the tokens are as the model
// assumes (independent normal channels) and where outliers stand above the others.
TEST(SmoothQuantFold, ItsLossIsTheErrorThatRoundingCauses) {
  for (const ActivationScheme& scheme :
       {kPerToken, ActivationScheme{.symmetric = false}, kPerTensor,
        ActivationScheme{"int", 8, false, ActivationScheme::Per::tensor, false}}) {
    for (const double outlier : {1.0, 8.0, 60.0}) {
      const Mlp mlp(outlier, scheme);
      const FoldDecision decision = smoothquant()->fold(kNormEdge, mlp.problem);
      EXPECT_NEAR(decision.loss_before / mlp.real_error(at::ones({128})), 1, 0.2)
          << scheme.describe() << ", outliers " << outlier;
      EXPECT_NEAR(decision.loss_after / mlp.real_error(decision.scales), 1, 0.2)
          << scheme.describe() << ", outliers " << outlier;
    }
  }
}

TEST(SmoothQuantFold, RecoversWhatOutliersCost) {
  for (const ActivationScheme& scheme : {kPerToken, kPerTensor}) {
    const Mlp mlp(60, scheme);
    const double plain = mlp.real_error(at::ones({128}));
    const double smooth = mlp.real_error(smoothquant()->fold(kNormEdge, mlp.problem).scales);
    EXPECT_LT(smooth, 0.15 * plain) << scheme.describe();
  }
}

TEST(SmoothQuantFold, AutoFindsTheAlphaThatReallyIsBest) {
  for (const double outlier : {1.0, 10.0, 60.0}) {
    const Mlp mlp(outlier);
    const FoldDecision found =
        smoothquant({{"alpha", std::string("auto")}, {"grid", int64_t{10}}})->fold(kNormEdge, mlp.problem);
    double best = mlp.real_error(at::ones({128}));
    for (int i = 0; i <= 10; ++i) {
      best = std::min(best, mlp.real_error(smoothquant_scales_reference(mlp.x, mlp.weights(), i / 10.0)));
    }
    const at::Tensor scales = found.scales.defined() ? found.scales : at::ones({128});
    EXPECT_LT(mlp.real_error(scales), 1.03 * best) << "outliers " << outlier << ", alpha " << found.ratio;
    EXPECT_LE(found.loss_after, found.loss_before);
  }
}

TEST(SmoothQuantFold, AutoIsNeverWorseThanAnyFixedAlpha) {
  const Mlp mlp(20);
  const double searched =
      smoothquant({{"alpha", std::string("auto")}})->fold(kNormEdge, mlp.problem).loss_after;
  for (int i = 0; i <= 20; ++i) {
    const FoldDecision fixed = smoothquant({{"alpha", i / 20.0}})->fold(kNormEdge, mlp.problem);
    EXPECT_LE(searched, fixed.loss_after * (1 + 1e-12)) << fixed.ratio;
  }
}

// Without quantised activations only the weights' error is left, and s = 1 or less migration wins.
TEST(SmoothQuantFold, AutoCountsOnlyWhatIsQuantised) {
  const Mlp both(60, kPerToken), weights_only(60, std::nullopt);
  const auto transform = smoothquant({{"alpha", std::string("auto")}});
  const FoldDecision with = transform->fold(kNormEdge, both.problem);
  const FoldDecision without = transform->fold(kNormEdge, weights_only.problem);
  EXPECT_LT(without.loss_before, 0.2 * with.loss_before) << "outliers make activations the larger error";
  EXPECT_LE(without.loss_after, without.loss_before);
}

TEST(SmoothQuantFold, PreservesTheFunction) {
  const Mlp mlp;
  const at::Tensor s = smoothquant()->fold(kNormEdge, mlp.problem).scales;
  const at::Tensor before = mlp.x.mm(mlp.gate.t()), after = (mlp.x / s).mm((mlp.gate * s).t());
  EXPECT_LT(((after - before).norm() / before.norm()).item<double>(), 1e-6);
}

TEST(SmoothQuantFold, DeadChannelsKeepScaleOne) {
  Mlp mlp;
  mlp.x.select(1, 7).zero_();
  mlp.observe();
  for (LinearProblem& each : mlp.problem.linears) each.weight.select(1, 9).zero_();
  for (const OptionValue& alpha : {OptionValue{0.5}, OptionValue{std::string("auto")}}) {
    const FoldDecision decision = smoothquant({{"alpha", alpha}})->fold(kNormEdge, mlp.problem);
    ASSERT_TRUE(decision.scales.defined());
    EXPECT_EQ(decision.scales[7].item<float>(), 1);
    EXPECT_EQ(decision.scales[9].item<float>(), 1);
    EXPECT_TRUE(at::isfinite(decision.scales).all().item<bool>());
    EXPECT_TRUE(std::isfinite(decision.loss_after));
  }
}

TEST(SmoothQuantFold, HeadsThatShareAProducerShareTheLargestStatistics) {
  Mlp mlp;  // 128 columns: 2 KV heads of 16 channels, each read by 4 query heads
  const ScaleEdge edge{ScaleEdge::Producer::linear, "v", {Slot::attention_out, std::nullopt}, 4, 16};
  const FoldDecision decision = smoothquant({{"attention_out", true}})->fold(edge, mlp.problem);
  ASSERT_TRUE(decision.scales.defined());
  const auto shared = [](const at::Tensor& largest) { return largest.view({2, 4, 16}).amax(1); };
  const at::Tensor inputs = shared(mlp.x.abs().amax(0)), weights = shared(mlp.weights().abs().amax(0));
  const at::Tensor expected = (inputs / weights).sqrt().unsqueeze(1).expand({2, 4, 16}).reshape(-1);
  EXPECT_TRUE(at::allclose(decision.scales, expected, 1e-5, 0));
}

TEST(SmoothQuantFold, SaysWhyItLeavesAnEdge) {
  Mlp mlp;
  ScaleEdge edge = kNormEdge;
  edge.input.slot = Slot::mlp_mid;
  EXPECT_THAT(smoothquant()->fold(edge, mlp.problem).note, testing::HasSubstr("option mlp_mid is off"));
  EXPECT_TRUE(smoothquant({{"mlp_mid", true}})->fold(edge, mlp.problem).scales.defined());
  edge.input.slot = Slot::attention_out;
  EXPECT_THAT(smoothquant()->fold(edge, mlp.problem).note, testing::HasSubstr("attention_out is off"));
  mlp.x.zero_();
  mlp.observe();
  EXPECT_THAT(smoothquant()->fold(kNormEdge, mlp.problem).note, testing::HasSubstr("no channel"));
  mlp.problem.linears.clear();
  EXPECT_THAT(smoothquant()->fold(kNormEdge, mlp.problem).note, testing::HasSubstr("no linear"));
}

TEST(SmoothQuantFold, RefusesWeightsThatAreNotFinite) {
  Mlp mlp;
  mlp.problem.linears[1].weight.index_put_({3, 5}, std::nan(""));
  EXPECT_THROW(smoothquant()->fold(kNormEdge, mlp.problem), UserError);
}

TEST(SmoothQuantFold, ScalesBeyondTheirTypeAreNoFold) {
  Mlp mlp;
  mlp.x.mul_(1e12);
  mlp.observe();
  const FoldDecision decision = smoothquant({{"alpha", 1.0}})->fold(kNormEdge, mlp.problem);
  EXPECT_FALSE(decision.scales.defined());
  EXPECT_THAT(decision.note, testing::HasSubstr("beyond their type"));
}

/// The mean over tokens of the squared span, measured.
double measured(const at::Tensor& u, bool symmetric) {
  const at::Tensor x = u.to(at::kDouble);
  const at::Tensor span = symmetric ? 2 * x.abs().amax(1) : x.amax(1).clamp_min(0) - x.amin(1).clamp_max(0);
  return span.square().mean().item<double>();
}

MinMax range_of(const at::Tensor& x) { return {x.amin(0), x.amax(0)}; }

double expected(const at::Tensor& x, bool symmetric) {
  return expected_square_span(x.square().mean(0), range_of(x), {}, symmetric).item<double>();
}

TEST(ExpectedSquareSpan, IsThatOfIndependentNormalChannels) {
  at::manual_seed(3);
  for (const bool symmetric : {true, false}) {
    for (const int64_t width : {1, 2, 64, 400}) {
      const at::Tensor x = at::randn({20000, width}) * (at::rand({width}) + 0.5);
      // The ends of one or two channels exclude each other, which the model doesn't see.
      const double bound = symmetric || width > 2 ? 0.03 : 0.35;
      EXPECT_NEAR(expected(x, symmetric) / measured(x, symmetric), 1, bound) << width << " " << symmetric;
    }
  }
}

TEST(ExpectedSquareSpan, ScalesDivideTheChannels) {
  at::manual_seed(4);
  const at::Tensor x = at::randn({5000, 32}), scales = at::rand({32}) * 3 + 0.2;
  for (const bool symmetric : {true, false}) {
    EXPECT_NEAR(expected_square_span(x.square().mean(0), range_of(x), scales, symmetric).item<double>() /
                    expected(x / scales, symmetric),
                1, 1e-5);
  }
}

TEST(ExpectedSquareSpan, OfConstantChannels) {
  const at::Tensor threes = at::full({6, 4}, 3.0f);
  EXPECT_NEAR(expected(threes, true), 36, 4);
  EXPECT_NEAR(expected(threes, false), 9, 3) << "nothing is negative";
  for (const bool symmetric : {true, false}) EXPECT_EQ(expected(at::zeros({6, 4}), symmetric), 0);
}

}  // namespace
}  // namespace lathe
