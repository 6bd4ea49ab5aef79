#include "algorithms/rtn.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "lib/base/error.h"
#include "lib/kernels/group_quant.h"
#include "lib/kernels/group_search_reference.h"
#include "tests/unit/algorithms/problems.h"

namespace lathe {
namespace {

using testing_problems::linear;
using testing_problems::solver_row;

const Scheme kSymmetric{"int", 4, 32, true};

SolveResult solve(const LinearProblem& problem) {
  const SolverEntry& row = solver_row("rtn");
  SharedInputProblem shared;
  shared.linears = {problem};
  return row.make(Options(row.options))->solve(shared).front();
}

void expect_refused(const LinearProblem& problem, const std::string& text) {
  testing_problems::expect_refused([](const LinearProblem& p) { return solve(p); }, problem, text);
}

TEST(Rtn, GivesTheNearestPointOfEachGroupsGrid) {
  at::manual_seed(1);
  for (const bool symmetric : {true, false}) {
    const Scheme scheme{"int", 3, 32, symmetric};
    const at::Tensor weight = at::randn({6, 64});
    const QuantizedTensor result = solve(linear("l", LinearRole::up_proj, weight, scheme)).quantized;
    EXPECT_EQ(result.scheme, scheme);
    const at::Tensor chosen = (result.dequantize() - weight).abs();
    for (int code = scheme.qmin(); code <= scheme.qmax(); ++code) {
      QuantizedTensor other = result;
      other.codes = at::full_like(result.codes, code);
      EXPECT_TRUE((chosen <= (other.dequantize() - weight).abs() + 1e-6).all().item<bool>()) << code;
    }
  }
}

// Range by range, group by group, in FP64.
TEST(Rtn, SearchedRangesAreTheReferences) {
  at::manual_seed(4);
  const SolverEntry& row = solver_row("rtn");
  const at::Tensor weight = at::randn({12, 96});
  InputStats stats;
  stats.mean_square = at::rand({96}).pow(3) + 0.01;
  for (const Scheme& scheme : {Scheme{"int", 4, 32, true}, Scheme{"int", 3, 48, false},
                               Scheme{"int", 2, -1, true}, Scheme{"int", 5, 16, false}}) {
    for (const DType dtype : {DType::F16, DType::BF16}) {
      for (const char* range : {"mse", "weighted"}) {
        SharedInputProblem shared;
        shared.linears = {linear("l", LinearRole::up_proj, weight, scheme)};
        shared.linears.front().scale_dtype = dtype;
        shared.stats = &stats;
        Options options(row.options);
        options.set("range", std::string(range));
        const QuantizedTensor found = row.make(options)->solve(shared).front().quantized;
        const at::Tensor importance = std::string(range) == "weighted" ? stats.mean_square : at::Tensor();
        shared.linears.front().range =
            kernels::search_range_reference(weight, importance, scheme, dtype, {40, 0.5});
        const QuantizedTensor expected = row.make(Options(row.options))->solve(shared).front().quantized;
        EXPECT_TRUE(at::equal(found.scales, expected.scales)) << scheme.describe() << range;
        EXPECT_TRUE(at::equal(found.codes, expected.codes)) << scheme.describe() << range;
      }
    }
  }
}

TEST(Rtn, ScalesAreValuesOfTheirType) {
  at::manual_seed(2);
  LinearProblem problem = linear("l", LinearRole::up_proj, at::randn({8, 64}), kSymmetric);
  for (const DType dtype : {DType::F16, DType::BF16}) {
    problem.scale_dtype = dtype;
    const QuantizedTensor result = solve(problem).quantized;
    EXPECT_EQ(result.scale_dtype, dtype);
    EXPECT_TRUE(at::equal(round_to(result.scales, dtype), result.scales));
    EXPECT_TRUE((result.scales > 0).all().item<bool>());
  }
}

TEST(Rtn, TakesAnOfferedRange) {
  LinearProblem problem = linear("l", LinearRole::up_proj, at::linspace(-1, 1, 32).view({1, 32}), kSymmetric);
  problem.range = GroupRange{at::full({1, 1}, -0.5f), at::full({1, 1}, 0.5f)};
  const at::Tensor values = solve(problem).quantized.dequantize();
  EXPECT_NEAR(values.max().item<float>(), 0.5 * 7 / 7.5, 1e-3);
  EXPECT_NEAR(values.min().item<float>(), -0.5 * 8 / 7.5, 1e-3);
}

TEST(Rtn, AnswersInOrderAndTakesStridedWeights) {
  at::manual_seed(3);
  const at::Tensor weight = at::randn({64, 4}).t();
  const SolverEntry& row = solver_row("rtn");
  SharedInputProblem shared;
  shared.linears = {linear("a", LinearRole::q_proj, weight, kSymmetric),
                    linear("b", LinearRole::k_proj, at::randn({2, 64}), {"int", 8, -1, false})};
  const auto results = row.make(Options(row.options))->solve(shared);
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(results[0].quantized.rows(), 4);
  EXPECT_LT((results[0].quantized.dequantize() - weight).abs().max().item<double>(), 0.5);
  EXPECT_EQ(results[1].quantized.scales.size(1), 1);
  EXPECT_TRUE(results[1].quantized.zero_points.defined());
}

TEST(Rtn, RefusesBadInputByName) {
  at::Tensor weight = at::randn({4, 64});
  weight[2][40] = NAN;
  expect_refused(linear("model.layers.0.mlp.up_proj", LinearRole::up_proj, weight, kSymmetric),
                 "row 2, group 1");
  expect_refused(linear("big", LinearRole::up_proj, at::full({1, 32}, 1e7f), kSymmetric), "beyond F16");
  expect_refused(linear("odd", LinearRole::up_proj, at::randn({1, 43}), kSymmetric), "does not divide");
}

TEST(Rtn, ASharedScaleBeyondItsTypeNamesTheLinearThatNeedsIt) {
  const SolverEntry& row = solver_row("rtn");
  Scheme fp8{.type = "fp8_e4m3", .bits = 8, .group_size = -1};
  fp8.rows = -1;
  at::Tensor large = at::ones({4, 32});
  large[2][5] = -1e9f;
  SharedInputProblem shared;
  shared.linears = {linear("q", LinearRole::q_proj, at::ones({4, 32}), fp8),
                    linear("k", LinearRole::k_proj, large, fp8)};
  try {
    row.make(Options(row.options))->solve(shared);
    ADD_FAILURE() << "solved what has no scale";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::AllOf(testing::StartsWith("k: row 2: a weight of 1e+09"),
                                             testing::HasSubstr("shared with q) beyond F16")));
  }
}

TEST(Rtn, UnusualWeightsComeOutRight) {
  at::manual_seed(5);
  const SolverEntry& row = solver_row("rtn");
  for (const char* range : {"minmax", "mse", "weighted"}) {
    for (const bool symmetric : {true, false}) {
      SCOPED_TRACE(std::string(range) + (symmetric ? " sym" : " asym"));
      Options options(row.options);
      options.set("range", std::string(range));
      const auto values = [&](const at::Tensor& weight, int64_t group, DType scales = DType::F16) {
        InputStats stats;
        stats.mean_square = at::rand({weight.size(1)}) + 0.1;
        SharedInputProblem shared;
        shared.linears = {linear("l", LinearRole::up_proj, weight, {"int", 4, group, symmetric})};
        shared.linears.front().scale_dtype = scales;
        shared.stats = &stats;
        return row.make(options)->solve(shared).front().quantized.dequantize();
      };
      at::Tensor weight = at::randn({4, 64});
      weight[1].zero_();
      weight[2].slice(0, 0, 32).fill_(0.5);  // a constant group
      const at::Tensor found = values(weight, 32);
      EXPECT_TRUE(found[1].eq(0).all().item<bool>());
      // On a symmetric grid the largest code is 7 of 7.5 steps.
      const double constant = (found[2].slice(0, 0, 32) - 0.5).abs().max().item<double>();
      EXPECT_LT(constant, symmetric ? 0.04 : 1e-3);
      EXPECT_TRUE(values(at::zeros({2, 32}), 32).eq(0).all().item<bool>());
      const at::Tensor tiny = at::randn({2, 32}) * 1e-41;
      EXPECT_LE((values(tiny, 32, DType::BF16) - tiny).abs().max().item<double>(), 1e-38);
      const at::Tensor one_row = at::randn({1, 64}), one_column = at::randn({5, 1});
      EXPECT_LT((values(one_row, 32) - one_row).abs().max().item<double>(), 0.6);
      const at::Tensor column = values(one_column, -1);
      EXPECT_TRUE(at::allclose(column, one_column, symmetric ? 0.08 : 1e-2, 0));
    }
  }
}

// All linears are looked at together; the first that is bad is named, whatever is wrong with the later ones.
TEST(Rtn, NamesTheFirstBadLinearOfSeveral) {
  at::Tensor spoiled = at::randn({4, 64});
  spoiled[1][3] = NAN;
  SharedInputProblem shared;
  shared.linears = {linear("good", LinearRole::q_proj, at::randn({4, 64}), kSymmetric),
                    linear("big", LinearRole::k_proj, at::full({4, 64}, 1e7f), kSymmetric),
                    linear("spoiled", LinearRole::v_proj, spoiled, kSymmetric)};
  const SolverEntry& row = solver_row("rtn");
  const auto message = [&] {
    try {
      row.make(Options(row.options))->solve(shared);
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(message(), ::testing::StartsWith("big: row 0, group 0"));
  std::swap(shared.linears[1], shared.linears[2]);
  EXPECT_THAT(message(), ::testing::StartsWith("spoiled: row 1, group 0"));
}

TEST(Registry, RowsAreCompleteAndTheirDefaultsWork) {
  EXPECT_FALSE(transforms().empty());
  EXPECT_FALSE(solvers().empty());
  for (const TransformEntry& row : transforms()) {
    EXPECT_FALSE(row.summary.empty());
    EXPECT_NE(row.make(Options(row.options)), nullptr) << row.name;
    for (const OptionSpec& option : row.options)
      EXPECT_FALSE(option.help.empty()) << row.name << "." << option.name;
  }
  for (const SolverEntry& row : solvers()) EXPECT_NE(row.make(Options(row.options)), nullptr) << row.name;
}

}  // namespace
}  // namespace lathe
