#include "algorithms/rounding_loss.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/unit/algorithms/problems.h"

namespace lathe {
namespace {

using testing_problems::linear;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Two linears, the first of several chunks of rows.
std::vector<LinearProblem> linears() {
  at::manual_seed(31);
  const int64_t rows = 2 * rows_per_chunk(at::empty({1, 512})) + 5;
  return {linear("wide", LinearRole::gate_proj, at::randn({rows, 512}), {"int", 3, 64, true}),
          linear("small", LinearRole::up_proj, at::randn({7, 512}), {"int", 4, 128, false})};
}

at::Tensor gram() {
  const at::Tensor x = at::randn({40, 512});
  return x.t().mm(x) / 40;
}

// A search takes the same scales whether it looks at each loss or at all of them at the end.
TEST(RoundingLoss, IsTheSameBitsOnTheDeviceAndOnTheHost) {
  const std::vector<LinearProblem> problem = linears();
  const RoundingLoss loss(problem, gram());
  for (const at::Tensor& scales : {at::Tensor(), at::rand({512}) + 0.5, at::full({512}, 1e30f)}) {
    const double at_once = loss.on_device(scales).item<double>();
    const double step_by_step = loss.up_to(kInfinity, scales);
    EXPECT_TRUE(at_once == step_by_step || (at_once != at_once && step_by_step != step_by_step))
        << at_once << " " << step_by_step;
  }
}

TEST(RoundingLoss, IsTheDirectSum) {
  const std::vector<LinearProblem> problem = linears();
  const at::Tensor h = gram(), scales = at::rand({512}) + 0.5;
  double direct = 0;
  for (const LinearProblem& each : problem) {
    LinearProblem scaled = each;
    scaled.weight = each.weight * scales;
    const at::Tensor error =
        (testing_problems::round_to_nearest(scaled) / scales - each.weight).to(at::kDouble);
    direct += error.mm(h.to(at::kDouble)).mul(error).sum().item<double>();
  }
  EXPECT_NEAR(RoundingLoss(problem, h).up_to(kInfinity, scales) / direct, 1, 1e-5);
}

TEST(RoundingLoss, GivesUpBeyondItsLimitOnly) {
  const std::vector<LinearProblem> problem = linears();
  const RoundingLoss loss(problem, gram());
  const double whole = loss.up_to(kInfinity, {});
  EXPECT_EQ(loss.up_to(whole, {}), whole);
  const double part = loss.up_to(whole / 10, {});
  EXPECT_GT(part, whole / 10);
  EXPECT_LT(part, whole) << "the rest was not computed";
}

}  // namespace
}  // namespace lathe
