#include "algorithms/hqq.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "algorithms/hqq_reference.h"
#include "lib/base/error.h"
#include "lib/kernels/group_quant.h"
#include "tests/unit/algorithms/problems.h"

namespace lathe {
namespace {

using testing_problems::linear;
using testing_problems::round_to_nearest;
using testing_problems::solver_row;

Scheme scheme_of(int bits, int64_t group, bool real = true, int axis = 1) {
  return {"int", bits, group, false, {}, real, axis};
}

using Settings = std::map<std::string, OptionValue>;

QuantizedTensor solve(const LinearProblem& problem, const Settings& settings = {}) {
  const SolverEntry& row = solver_row("hqq");
  Options options(row.options);
  for (const auto& [name, value] : settings) options.set(name, value);
  SharedInputProblem shared;
  shared.linears = {problem};
  return row.make(options)->solve(shared).front().quantized;
}

LinearProblem problem_of(const at::Tensor& weight, const Scheme& scheme, DType scales = DType::F16) {
  LinearProblem problem = linear("model.layers.0.mlp.up_proj", LinearRole::up_proj, weight, scheme);
  problem.scale_dtype = scales;
  return problem;
}

/// Sum of |error|, or of its square, of each group, in the order of the scales.
at::Tensor group_error(const QuantizedTensor& result, const at::Tensor& weight, bool squares) {
  const at::Tensor error = (result.dequantize() - weight).abs().pow(squares ? 2 : 1);
  if (result.scheme.axis == 0) return error.view({-1, result.scales.size(0), error.size(1)}).sum(0);
  return error.view({error.size(0), result.scales.size(1), -1}).sum(-1);
}

double mean_error(const QuantizedTensor& result, const at::Tensor& weight) {
  return (result.dequantize() - weight).abs().mean().item<double>();
}

// The library's FP32 solver on groups of one, several bits and norms, with and without effective shrinkage.
TEST(Hqq, GivesTheLibrarysAnswerForAGroup) {
  std::ifstream file(std::string(LATHE_SOURCE_DIR) + "/tests/golden/hqq/solver.json");
  int same_zero = 0, cases = 0;
  for (const nlohmann::json& golden : nlohmann::json::parse(file)) {
    SCOPED_TRACE(golden.at("kind").get<std::string>() + " " + golden.at("bits").dump());
    const auto values = golden.at("weights").get<std::vector<float>>();
    const int bits = golden.at("bits");
    const at::Tensor weight = at::tensor(values).view({1, -1});
    const QuantizedTensor result = solve(problem_of(weight, scheme_of(bits, -1), DType::F32),
                                         {{"lp_norm", golden.at("lp_norm").get<double>()},
                                          {"scale", std::string("fixed")},
                                          {"round_zero", std::string("never")}});
    EXPECT_NEAR(result.scales.item<double>() / golden.at("scale").get<double>(), 1, 1e-5);
    // Two ends of one rounding step apart, an iteration goes two ways; both are the algorithm's answers.
    const double zero = golden.at("zero").get<double>() + (1 << (bits - 1)) * -1.0;
    const double error = golden.at("error"), own = mean_error(result, weight);
    EXPECT_LE(own, error * (1 + 1e-4));
    same_zero += std::abs(result.zero_points.item<double>() - zero) < 1e-3 ? 1 : 0;
    ++cases;
  }
  EXPECT_EQ(cases, 24);
  EXPECT_GE(same_zero, 22);
}

bool same_grid(double scale, double zero, const HqqReferenceGroup& expected) {
  return std::abs(zero - expected.zero) < 1e-3 * std::max(1.0, std::abs(expected.zero)) &&
         std::abs(scale / expected.scale - 1) < 1e-4;
}

/// Per group, whether the reference answers alike for weights that differ from these by no more than FP32's
/// arithmetic on them does. Else a code or a comparison hangs on a tie, and both ways are the algorithm's.
std::vector<bool> without_ties(const at::Tensor& weight, const Scheme& scheme,
                               const HqqReferenceChoice& choice,
                               const std::vector<HqqReferenceGroup>& expected) {
  std::vector<bool> clear(expected.size(), true);
  for (int draw = 0; draw < 4; ++draw) {
    const at::Tensor near = weight.to(at::kDouble) * (1 + 1e-6 * at::randn(weight.sizes(), at::kDouble));
    const auto moved = hqq_reference(near, scheme, choice);
    for (size_t g = 0; g < moved.size(); ++g) {
      clear[g] = clear[g] && same_grid(moved[g].scale, moved[g].zero, expected[g]) &&
                 moved[g].codes == expected[g].codes;
    }
  }
  return clear;
}

struct Agreement {
  int groups = 0, clear = 0, same = 0;
};

/// How many groups of the fast path are the reference's, of those without ties.
void compare(const at::Tensor& weight, const Scheme& scheme, const HqqReferenceChoice& choice,
             Agreement& agreement) {
  const QuantizedTensor found = solve(problem_of(weight, scheme, DType::F32),
                                      {{"scale", std::string(choice.fit_scale ? "fitted" : "fixed")},
                                       {"round_zero", std::string(choice.round_start ? "always" : "never")},
                                       {"early_stop", choice.early_stop},
                                       {"lp_norm", choice.lp_norm},
                                       {"beta", choice.beta},
                                       {"kappa", choice.kappa},
                                       {"iterations", int64_t{choice.iterations}}});
  const auto expected = hqq_reference(weight, scheme, choice);
  const std::vector<bool> clear = without_ties(weight, scheme, choice, expected);
  const at::Tensor scales = found.scales.view({-1}), zeros = found.zero_points.view({-1}).to(at::kFloat);
  const at::Tensor errors = group_error(found, weight, choice.fit_scale).view({-1}).to(at::kDouble);
  const auto length = static_cast<double>(weight.numel()) / static_cast<double>(expected.size());
  ASSERT_EQ(scales.numel(), static_cast<int64_t>(expected.size()));
  for (size_t g = 0; g < expected.size(); ++g) {
    ++agreement.groups;
    if (!clear[g]) continue;
    const auto at = static_cast<int64_t>(g);
    ++agreement.clear;
    const bool same = same_grid(scales[at].item<double>(), zeros[at].item<double>(), expected[g]);
    agreement.same += same ? 1 : 0;
    const double sum = errors[at].item<double>() / length, error = choice.fit_scale ? std::sqrt(sum) : sum;
    EXPECT_LE(error, expected[g].error * (same ? 1.001 : 1.05)) << scheme.describe();
    EXPECT_GE(error, expected[g].error * (same ? 0.999 : 0)) << scheme.describe();
  }
}

// FP64 and the paper's steps: fixed and fitted scales, real and integer zero points, both axes, with and
// without early_stop; shrinkage is active in the wide weights, and with a large beta in all.
TEST(Hqq, AgreesWithTheReference) {
  at::manual_seed(1);
  for (const bool fitted : {false, true}) {
    for (const bool real : {true, false}) {
      for (const int axis : {1, 0}) {
        for (const bool early_stop : {true, false}) {
          Agreement agreement;
          for (HqqReferenceChoice choice : {HqqReferenceChoice{}, HqqReferenceChoice{0.5, 1e4, 1.0, 40},
                                            HqqReferenceChoice{0.9, 100, 1.5, 20}}) {
            choice.fit_scale = fitted;
            choice.early_stop = early_stop;
            for (const double width : {0.02, 1.0, 40.0}) {
              for (const int bits : {1, 2, 3, 4, 8}) {
                if (bits == 1 && !real) continue;  // one of the two codes is the zero point: ties everywhere
                choice.round_start = bits % 2 == 0;
                const at::Tensor weight = (axis == 1 ? at::randn({8, 96}) : at::randn({96, 8})) * width;
                compare(weight, scheme_of(bits, 48, real, axis), choice, agreement);
              }
            }
          }
          const std::string where =
              fmt::format("fitted {} real {} axis {} early_stop {}: {} groups, {} clear, {} same", fitted,
                          real, axis, early_stop, agreement.groups, agreement.clear, agreement.same);
          EXPECT_GT(agreement.clear, agreement.groups * 90 / 100) << where;
          EXPECT_GE(agreement.same, agreement.clear * 98 / 100) << where;
        }
      }
    }
  }
}

TEST(Hqq, FittedScalesLeaveLessErrorThanFixedOnes) {
  at::manual_seed(11);
  const at::Tensor weight = at::randn({64, 128}) * 0.05;
  for (const bool real : {true, false}) {
    for (const int bits : {2, 3, 4}) {
      const LinearProblem problem = problem_of(weight, scheme_of(bits, 64, real));
      const double fixed = mean_error(solve(problem, {{"scale", std::string("fixed")}}), weight);
      EXPECT_LT(mean_error(solve(problem, {{"scale", std::string("fitted")}}), weight), 0.99 * fixed)
          << bits << real;
    }
  }
}

// As the library's round_zero: with 4 bits an integer, and a real number with others.
TEST(Hqq, StartsFromAnIntegerZeroPointWithFourBits) {
  at::manual_seed(14);
  const at::Tensor weight = at::randn({16, 64}) * 0.02 + 0.003;
  for (const int bits : {3, 4}) {
    const LinearProblem problem = problem_of(weight, scheme_of(bits, 64), DType::F32);
    const auto zeros = [&](const char* round_zero) {
      return solve(problem, {{"round_zero", std::string(round_zero)}, {"iterations", int64_t{0}}})
          .zero_points;
    };
    EXPECT_TRUE(at::equal(zeros("always"), zeros("always").round()));
    EXPECT_FALSE(at::equal(zeros("never"), zeros("never").round()));
    EXPECT_LE((zeros("always") - zeros("never")).abs().max().item<double>(), 0.5);
    EXPECT_TRUE(at::equal(zeros("auto"), zeros(bits == 4 ? "always" : "never"))) << bits;
  }
}

// What a transform chose for the layer's outputs is not undone by a fit to the weights, unless asked for.
TEST(Hqq, KeepsTheScaleAfterATransform) {
  at::manual_seed(12);
  LinearProblem problem = problem_of(at::randn({8, 64}), scheme_of(3, 32));
  const at::Tensor fitted = solve(problem, {{"scale", std::string("fitted")}}).scales;
  const at::Tensor fixed = solve(problem, {{"scale", std::string("fixed")}}).scales;
  EXPECT_FALSE(at::equal(fitted, fixed));
  EXPECT_TRUE(at::equal(solve(problem).scales, fitted));
  problem.transformed = true;
  EXPECT_TRUE(at::equal(solve(problem).scales, fixed));
  EXPECT_TRUE(at::equal(solve(problem, {{"scale", std::string("fitted")}}).scales, fitted));
}

TEST(Hqq, RangesMayBeWeightedByTheInputs) {
  at::manual_seed(13);
  const at::Tensor weight = at::randn({16, 128});
  for (const int axis : {1, 0}) {
    SharedInputProblem shared;
    InputStats stats;
    stats.mean_square = at::rand({128}).pow(8) + 1e-3;
    shared.linears = {problem_of(weight, scheme_of(2, axis == 1 ? 64 : 16, true, axis))};
    shared.stats = &stats;
    const auto scales = [&](const char* range) {
      Options options(hqq_options());
      options.set("range", std::string(range));
      options.set("scale", std::string("fixed"));
      const auto solver = make_hqq(options);
      EXPECT_EQ(solver->needs() == StatSet{.mean_square = true}, std::string(range) == "weighted");
      return solver->solve(shared).front().quantized.scales;
    };
    EXPECT_FALSE(at::equal(scales("weighted"), scales("minmax")));
    // Along a column every weight meets the same input.
    EXPECT_EQ(at::equal(scales("weighted"), scales("mse")), axis == 0);
  }
}

TEST(Hqq, IsNeverWorseThanItsStart) {
  at::manual_seed(2);
  const at::Tensor weight = at::randn({16, 128}) * 0.05;
  for (const int axis : {1, 0}) {
    for (const int bits : {1, 2, 4, 8}) {
      for (const char* fitted : {"fixed", "fitted"}) {
        for (const bool real : {true, false}) {
          const LinearProblem problem = problem_of(weight, scheme_of(bits, 16, real, axis));
          const bool squares = std::string(fitted) == "fitted";
          const at::Tensor start = group_error(
              solve(problem, {{"scale", std::string(fitted)}, {"iterations", int64_t{0}}}), weight, squares);
          for (const bool stop : {true, false}) {
            const QuantizedTensor result =
                solve(problem, {{"scale", std::string(fitted)}, {"early_stop", stop}});
            const at::Tensor error = group_error(result, weight, squares);
            EXPECT_TRUE((error <= start * 1.00001).all().item<bool>())
                << result.scheme.describe() << " " << fitted << " stop " << stop;
            if (!real || !stop) continue;
            EXPECT_LT(error.sum().item<double>(), 0.999 * start.sum().item<double>());
          }
        }
      }
    }
  }
}

// Plain rounding with the same grid is where integer zero points start.
TEST(Hqq, IntegerZeroPointsAreNoWorseThanRounding) {
  at::manual_seed(3);
  const at::Tensor weight = at::randn({16, 128}).abs_() * 0.05;
  for (const int bits : {2, 3, 4, 8}) {
    const LinearProblem problem = problem_of(weight, scheme_of(bits, 32, false));
    const double plain = (round_to_nearest(problem) - weight).abs().mean().item<double>();
    const QuantizedTensor result = solve(problem, {{"scale", std::string("fitted")}});
    EXPECT_EQ(result.zero_points.scalar_type(), at::kChar);
    EXPECT_TRUE(((result.zero_points >= result.scheme.qmin()) & (result.zero_points <= result.scheme.qmax()))
                    .all()
                    .item<bool>());
    EXPECT_LT(mean_error(result, weight), plain);
  }
}

TEST(Hqq, GroupsOfColumnsAreThoseOfTheTransposedWeight) {
  at::manual_seed(4);
  const at::Tensor weight = at::randn({32, 24});
  const QuantizedTensor columns = solve(problem_of(weight, scheme_of(3, -1, true, 0)));
  const QuantizedTensor rows = solve(problem_of(weight.t().contiguous(), scheme_of(3, -1)));
  EXPECT_TRUE(at::equal(columns.codes, rows.codes.t()));
  EXPECT_TRUE(at::equal(columns.dequantize(), rows.dequantize().t()));
  // The library's groups: W.reshape(group_size, -1), one a column.
  const QuantizedTensor strided = solve(problem_of(weight, scheme_of(3, 8, true, 0)));
  const at::Tensor group = weight.view({8, -1}).t().contiguous();
  const QuantizedTensor same = solve(problem_of(group, scheme_of(3, -1)));
  EXPECT_TRUE(at::equal(strided.scales.view({-1}), same.scales.view({-1})));
  EXPECT_TRUE(at::equal(strided.dequantize().view({8, -1}).t(), same.dequantize()));
  EXPECT_TRUE(at::equal(strided.dequantize_rows(5, 11), strided.dequantize().slice(0, 5, 11)));
}

// What files hold: scale and zero point, counted from code 0, are values of the scales' type.
TEST(Hqq, ParametersAreValuesOfTheirType) {
  at::manual_seed(5);
  for (const DType dtype : {DType::F16, DType::BF16}) {
    const QuantizedTensor result = solve(problem_of(at::randn({8, 64}) + 0.3, scheme_of(4, 32), dtype));
    EXPECT_TRUE(at::equal(round_to(result.scales, dtype), result.scales));
    const at::Tensor stored = result.zero_points - result.scheme.qmin();
    EXPECT_TRUE(at::equal(round_to(stored, dtype), stored));
    EXPECT_TRUE((result.scales > 0).all().item<bool>());
  }
}

TEST(Hqq, RowsDontDependOnEachOther) {
  at::manual_seed(6);
  const at::Tensor weight = at::randn({40, 96});
  const QuantizedTensor whole = solve(problem_of(weight, scheme_of(4, 32)));
  const QuantizedTensor part = solve(problem_of(weight.slice(0, 7, 19), scheme_of(4, 32)));
  EXPECT_TRUE(at::equal(whole.codes.slice(0, 7, 19), part.codes));
  EXPECT_TRUE(at::equal(whole.zero_points.slice(0, 7, 19), part.zero_points));
}

TEST(Hqq, TakesAnOfferedRange) {
  LinearProblem problem = problem_of(at::linspace(-1, 1, 32).view({1, 32}), scheme_of(4, 32));
  problem.range = GroupRange{at::full({1, 1}, -0.5f), at::full({1, 1}, 0.5f)};
  EXPECT_NEAR(solve(problem).scales.item<double>(), 1.0 / 15, 1e-4);
}

TEST(Hqq, ZeroRowsAndConstantGroupsAreExact) {
  for (const bool real : {true, false}) {
    at::Tensor weight = at::zeros({3, 64});
    weight[1].fill_(0.5);
    weight[2].slice(0, 32).fill_(-3);
    const QuantizedTensor result = solve(problem_of(weight, scheme_of(4, 32, real)));
    EXPECT_LT((result.dequantize() - weight).abs().max().item<double>(), real ? 1e-9 : 2e-3);
  }
}

// Far from 0 and close together: the zero point's own rounding bounds what can be told apart.
TEST(Hqq, NearlyConstantGroupsStayClose) {
  at::manual_seed(7);
  const at::Tensor weight = 100 + at::randn({4, 64}) * 1e-3;
  const QuantizedTensor result = solve(problem_of(weight, scheme_of(4, 64)));
  EXPECT_LT((result.dequantize() - weight).abs().max().item<double>(), 100.0 / 1024);
}

TEST(Hqq, DenormalAndLargeWeightsHaveAnAnswer) {
  at::manual_seed(8);
  for (const float width : {1e-44f, 1e-40f, 1e-30f, 1e-7f, 1e4f, 1e30f}) {
    const at::Tensor weight = at::randn({4, 64}) * width;
    const QuantizedTensor result = solve(problem_of(weight, scheme_of(4, 32), DType::BF16));
    EXPECT_TRUE(at::isfinite(result.dequantize()).all().item<bool>()) << width;
    EXPECT_LE((result.dequantize() - weight).abs().max().item<double>(), std::max(0.4 * width, 1e-38))
        << width;
  }
}

TEST(Hqq, ShapesOfOneRowAndOneColumn) {
  at::manual_seed(9);
  const at::Tensor row = at::randn({1, 40}), column = at::randn({40, 1});
  EXPECT_LT(mean_error(solve(problem_of(row, scheme_of(4, -1))), row), 0.1);
  EXPECT_LT(mean_error(solve(problem_of(column, scheme_of(4, -1))), column), 1e-3);
  EXPECT_LT(mean_error(solve(problem_of(column, scheme_of(4, 8, true, 0))), column), 0.1);
  EXPECT_LT(mean_error(solve(problem_of(row, scheme_of(4, -1, true, 0))), row), 1e-3);
}

void expect_refused(const LinearProblem& problem, const std::string& text) {
  testing_problems::expect_refused([](const LinearProblem& p) { return solve(p); }, problem, text);
}

TEST(Hqq, RefusesBadInputByName) {
  at::Tensor weight = at::randn({4, 64});
  weight[2][40] = NAN;
  expect_refused(problem_of(weight, scheme_of(4, 32)), "row 2, group 1");
  expect_refused(problem_of(weight, scheme_of(4, 2, true, 0)), "column 40, group 0");
  weight[2][40] = -INFINITY;
  expect_refused(problem_of(weight, scheme_of(4, 32)), "holds a NaN or an infinity");
  at::Tensor huge = at::zeros({1, 32});
  huge[0][0] = 1e7f;
  expect_refused(problem_of(huge, scheme_of(4, 32)), "beyond F16");
  expect_refused(problem_of(at::randn({1, 43}), scheme_of(4, 32)), "does not divide");
  expect_refused(problem_of(at::randn({6, 8}), scheme_of(4, 4, true, 0)), "does not divide columns of 6");
  expect_refused(problem_of(at::randn({1, 32}), {"int", 4, 32, true}), "symmetric: false");
}

TEST(Registry, SolversThatRoundRowsRefuseOtherGrids) {
  const SolverEntry& rtn = solver_row("rtn");
  EXPECT_FALSE(rtn.refuses({"int", 4, 32, false}));
  EXPECT_THAT(*rtn.refuses(scheme_of(4, 32)), testing::HasSubstr("zero_point: integer"));
  EXPECT_THAT(*rtn.refuses(scheme_of(4, 32, false, 0)), testing::HasSubstr("axis: 1"));
  EXPECT_THAT(*rtn.refuses(scheme_of(1, 32, false)), testing::HasSubstr("1 bit"));
  EXPECT_FALSE(solver_row("hqq").refuses(scheme_of(1, 32, true, 0)));
}

}  // namespace
}  // namespace lathe
