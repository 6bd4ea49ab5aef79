// Inputs that a transform meets once a year: AWQ and SmoothQuant find a fold that the solvers can use, say
// why there is none, or name what is wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "algorithms/algorithm.h"
#include "lib/base/error.h"
#include "tests/unit/algorithms/problems.h"

namespace lathe {
namespace {

using testing_problems::linear;

const ScaleEdge kEdge{ScaleEdge::Producer::norm, "norm", {Slot::mlp_in, std::nullopt}, 1, 0};

class TransformInput : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Transform> transform() const {
    const TransformEntry& row = testing_problems::transform_row(GetParam());
    return row.make(Options(row.options));
  }

  InputStats stats_of(const at::Tensor& x) const {
    StatsCollector collector(transform()->needs(), x.size(-1), c10::kCPU, "test input");
    collector.observe(x);
    return collector.finish();
  }

  SharedInputProblem problem_of(const at::Tensor& weight, const InputStats& stats) const {
    const bool inputs = GetParam() == "smoothquant";
    const int64_t group = weight.size(1) % 16 == 0 && !inputs ? 16 : -1;
    SharedInputProblem problem;
    problem.linears = {linear("l", LinearRole::up_proj, weight, {"int", inputs ? 8 : 4, group, true})};
    problem.linears.front().scale_dtype = scale_dtype;
    if (inputs) problem.linears.front().activations = ActivationScheme{};
    problem.stats = &stats;
    return problem;
  }

  /// Folds, offers a range and rounds. The decision; what is rounded is finite and close in output.
  FoldDecision worked(const at::Tensor& x, const at::Tensor& weight) const {
    const InputStats stats = stats_of(x);
    SharedInputProblem problem = problem_of(weight, stats);
    const FoldDecision decision = transform()->fold(kEdge, problem);
    EXPECT_NE(decision.scales.defined(), !decision.note.empty()) << decision.note;
    EXPECT_TRUE(std::isfinite(decision.loss_before) && std::isfinite(decision.loss_after));
    at::Tensor scales = at::ones({x.size(1)});
    if (decision.scales.defined()) {
      EXPECT_TRUE((decision.scales > 0).logical_and(at::isfinite(decision.scales)).all().item<bool>());
      scales = decision.scales;
    }
    LinearProblem folded = problem.linears.front();
    folded.weight = folded.weight * scales;
    folded.range = transform()->range(folded, InputStats(stats).with_inputs_divided(scales));
    if (folded.range) {
      EXPECT_TRUE((folded.range->lo <= folded.range->hi).all().item<bool>());
    }
    const at::Tensor values = testing_problems::round_to_nearest(folded) / scales;
    EXPECT_TRUE(at::isfinite(values).all().item<bool>());
    const double output = testing_problems::token_loss(weight, at::zeros_like(weight), x);
    EXPECT_LE(testing_problems::token_loss(weight, values, x), 0.05 * output + 1e-30);
    return decision;
  }

  std::string refusal(const at::Tensor& x, const at::Tensor& weight) const {
    const InputStats stats = stats_of(x);
    try {
      transform()->fold(kEdge, problem_of(weight, stats));
    } catch (const UserError& error) {
      return error.what();
    }
    return "(folded)";
  }

  DType scale_dtype = DType::F16;
};

TEST_P(TransformInput, ZeroRowsAndConstantGroups) {
  at::manual_seed(1);
  const at::Tensor x = testing_problems::tokens_with_outliers(200, 64, 10);
  at::Tensor weight = at::randn({12, 64}) * 0.05;
  weight[3].zero_();
  weight[5].slice(0, 16, 32).fill_(0.25);
  weight[7].fill_(-0.5);
  EXPECT_TRUE(worked(x, weight).scales.defined());
  EXPECT_THAT(worked(x, at::zeros({4, 64})).note, testing::HasSubstr("no channel"));
}

TEST_P(TransformInput, DenormalWeights) {
  at::manual_seed(2);
  scale_dtype = DType::BF16;  // the smallest scales there are
  const at::Tensor x = testing_problems::tokens_with_outliers(200, 64, 10);
  const InputStats stats = stats_of(x);
  const at::Tensor weight = at::randn({12, 64}) * 1e-40;
  const FoldDecision decision = transform()->fold(kEdge, problem_of(weight, stats));
  EXPECT_NE(decision.scales.defined(), !decision.note.empty());
  if (decision.scales.defined()) {
    EXPECT_TRUE((decision.scales > 0).logical_and(at::isfinite(decision.scales)).all().item<bool>());
  }
}

TEST_P(TransformInput, HugeWeightsAreRefusedByName) {
  at::manual_seed(3);
  const at::Tensor x = testing_problems::tokens_with_outliers(200, 64, 10);
  at::Tensor weight = at::randn({12, 64});
  weight[1][17] = 1e9;
  EXPECT_THAT(refusal(x, weight),
              testing::AllOf(testing::StartsWith("l: "), testing::HasSubstr("beyond F16")));
  weight[1][17] = INFINITY;
  EXPECT_THAT(refusal(x, weight), testing::StartsWith("l: "));
  scale_dtype = DType::BF16;  // holds such scales
  weight[1][17] = 1e9;
  worked(x, weight);
}

TEST_P(TransformInput, FewerTokensThanChannels) {
  at::manual_seed(4);
  const at::Tensor x = testing_problems::tokens_with_outliers(5, 64, 10);
  EXPECT_TRUE(worked(x, at::randn({12, 64})).scales.defined());
  worked(at::randn({1, 64}), at::randn({12, 64}));
}

TEST_P(TransformInput, OneRowAndOneColumn) {
  at::manual_seed(5);
  worked(testing_problems::tokens_with_outliers(50, 64, 10), at::randn({1, 64}));
  worked(at::randn({50, 1}), at::randn({7, 1}));
  worked(at::randn({50, 1}), at::randn({1, 1}));
}

TEST_P(TransformInput, AGroupSizeThatDoesNotDivideIsRefused) {
  const at::Tensor x = at::randn({50, 40});
  const InputStats stats = stats_of(x);
  SharedInputProblem problem = problem_of(at::randn({4, 40}), stats);
  problem.linears.front().scheme.group_size = 16;
  try {
    transform()->fold(kEdge, problem);
    FAIL() << "folded groups that don't divide the row";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("group_size 16 does not divide rows of 40"));
  }
}

INSTANTIATE_TEST_SUITE_P(All, TransformInput, testing::Values("awq", "smoothquant"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace lathe
