// AWQ's search on the Gram matrix against plain loops over the tokens: every candidate, and the choice.
#include "algorithms/awq_reference.h"

#include <gtest/gtest.h>

#include "algorithms/awq.h"
#include "algorithms/clip_search.h"
#include "lib/kernels/group_quant.h"
#include "tests/unit/algorithms/problems.h"

namespace lathe {
namespace {

using testing_problems::linear;
using testing_problems::stats_of;

struct Case {
  Scheme scheme;
  double outlier;
  bool duo;
  int64_t repeat = 1, head_dim = 0;
};

FoldDecision fold(const Case& test, const at::Tensor& x, const std::vector<at::Tensor>& weights,
                  int64_t grid) {
  const InputStats stats = stats_of(x);
  SharedInputProblem problem;
  problem.stats = &stats;
  for (const at::Tensor& weight : weights)
    problem.linears.push_back(linear("l", LinearRole::up_proj, weight, test.scheme));
  Options options(awq_options());
  options.set("grid", grid);
  options.set("duo_scaling", test.duo);
  ScaleEdge edge{ScaleEdge::Producer::norm, "norm", {Slot::mlp_in, std::nullopt}, 1, 0};
  edge.repeat = test.repeat;
  edge.head_dim = test.head_dim;
  return make_awq(options)->fold(edge, problem);
}

TEST(AwqReference, TheSearchTakesTheBestOfAllItsExponents) {
  at::manual_seed(31);
  constexpr int64_t kGrid = 12;
  int scaled = 0;
  for (const Case& test :
       {Case{{"int", 4, 16, true}, 20, true}, Case{{"int", 4, 16, true}, 20, false},
        Case{{"int", 3, 32, false}, 5, true}, Case{{"int", 3, 32, false}, 5, false},
        Case{{"int", 2, -1, true}, 60, true}, Case{{"int", 8, 16, false}, 1, false},
        Case{{"int", 4, 16, true}, 20, true, 2, 8}, Case{{"int", 3, 16, false}, 20, false, 4, 8}}) {
    at::Tensor x = testing_problems::tokens_with_outliers(50, 64, test.outlier);
    std::vector<at::Tensor> weights = {at::randn({9, 64}) * 0.05, at::randn({5, 64}) * 0.05};
    if (test.repeat == 1) {  // a dead channel, and one that nobody reads
      x.select(1, 20).zero_();
      for (const at::Tensor& weight : weights) weight.select(1, 30).zero_();
    }
    std::vector<AwqReferenceLinear> linears;
    for (const at::Tensor& weight : weights) linears.push_back({weight, test.scheme});
    const AwqReferenceChoice expected =
        awq_reference(x, linears, kGrid, test.duo, test.repeat, test.head_dim);
    const FoldDecision found = fold(test, x, weights, kGrid);
    SCOPED_TRACE(test.scheme.describe() + (test.duo ? " duo" : ""));
    EXPECT_NEAR(found.loss_before / expected.unscaled, 1, 1e-4);
    ASSERT_EQ(found.scales.defined(), expected.best >= 0);
    if (expected.best < 0) continue;
    ++scaled;
    const double best = expected.losses[static_cast<size_t>(expected.best)];
    EXPECT_EQ(found.ratio, static_cast<double>(expected.best) / kGrid);
    EXPECT_NEAR(found.loss_after / best, 1, 1e-4);
    EXPECT_TRUE(at::allclose(found.scales.to(at::kDouble), expected.scales, 1e-4, 0));
    EXPECT_EQ(*std::ranges::min_element(expected.losses), best);
  }
  EXPECT_GE(scaled, 6);
}

TEST(AwqReference, TheClipIsTheOneWithTheLeastErrorOnTheTokens) {
  at::manual_seed(32);
  int64_t wider = 0;
  for (const Scheme& scheme : {Scheme{"int", 4, 16, true}, Scheme{"int", 3, 32, false},
                               Scheme{"int", 2, -1, true}, Scheme{"int", 2, 16, false}}) {
    const at::Tensor x = testing_problems::tokens_with_outliers(40, 64, 8), weight = at::randn({12, 64});
    // The full range, wider ones of a symmetric grid, narrower ones.
    std::vector<double> factors = {1};
    const double top = std::pow(2, scheme.bits), widest = scheme.symmetric ? (top - 1) / (top - 2) : 1;
    for (int step = 10; step > 0; --step) {
      if (1 + 0.06 * (step - 1) < widest) factors.push_back(std::min(1 + 0.06 * step, widest));
    }
    for (int step = 1; step <= 10; ++step) factors.push_back(1 - 0.06 * step);
    const at::Tensor factor = awq_clip_reference(x, {weight, scheme}, factors).to(at::kFloat);
    const GroupRange found = search_clip(weight, scheme, DType::F16, stats_of(x).gram, {10, 0.6});
    const GroupRange full = kernels::group_min_max(weight, scheme);
    const at::Tensor same = at::isclose(found.hi, full.hi * factor, 1e-5, 1e-7)
                                .logical_and(at::isclose(found.lo, full.lo * factor, 1e-5, 1e-7));
    EXPECT_TRUE(same.all().item<bool>())
        << scheme.describe() << ": " << same.sum().item<int64_t>() << " of " << same.numel();
    EXPECT_TRUE(factor.lt(1).any().item<bool>());
    wider += factor.gt(1).sum().item<int64_t>();
  }
  EXPECT_GT(wider, 0);
}

}  // namespace
}  // namespace lathe
