// SpQR's fast path against its reference, and as a solver: what it promises of size, order and hostile input.
#include "algorithms/spqr.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "algorithms/column_order.h"
#include "algorithms/spqr_columns.h"
#include "algorithms/spqr_reference.h"
#include "lib/base/error.h"
#include "tests/unit/algorithms/problems.h"

namespace lathe {
namespace {

using testing_problems::linear;
using testing_problems::solver_row;
using testing_problems::stats_of;
using testing_problems::token_loss;

Scheme scheme_of(int bits = 3, int64_t group = 16, ScaleGrid grid = {}) {
  Scheme scheme{"int", bits, group, false};
  scheme.scale_grid = grid;
  return scheme;
}

using Choices = std::vector<std::pair<std::string, OptionValue>>;

std::vector<SolveResult> solve(const std::vector<LinearProblem>& linears, const at::Tensor& gram,
                               Choices choices = {}) {
  const SolverEntry& row = solver_row("spqr");
  Options options(row.options);
  for (auto& [name, value] : choices) options.set(name, value);
  InputStats stats;
  stats.gram = gram;
  SharedInputProblem problem;
  problem.linears = linears;
  problem.stats = &stats;
  return row.make(options)->solve(problem);
}

QuantizedTensor solve_one(const at::Tensor& weight, const at::Tensor& gram, Choices choices = {}) {
  return solve({linear("l", LinearRole::up_proj, weight, scheme_of())}, gram, std::move(choices))
      .front()
      .quantized;
}

at::Tensor gram_of(const at::Tensor& x) { return stats_of(x).gram; }

struct ColumnsCase {
  int bits;
  int64_t group;
  ScaleGrid second;
  bool act_order;
  std::vector<int64_t> dead = {};
};
const ColumnsCase kColumnsCases[] = {{3, 16, {}, false},         {3, 16, {}, true},
                                     {2, 16, {}, true},          {4, 16, {}, true},
                                     {3, 16, {}, true, {5, 40}}, {3, 16, {}, false, {0, 17, 18}},
                                     {3, 8, {3, 16}, true},      {4, 32, {4, 8}, true},
                                     {2, 64, {3, 32}, false},    {4, 32, {3, 16}, true, {1, 2, 3, 63}}};

/// The matrix in the order of rounding and its factor, dead columns with the mean of the others.
SpqrProblem in_double(const at::Tensor& weight, const at::Tensor& gram, const ColumnsCase& c) {
  at::Tensor h = gram.clone(), w = weight.clone();
  const auto live = static_cast<double>(h.size(0) - static_cast<int64_t>(c.dead.size()));
  const double mean = h.diagonal().sum().item<double>() / live;
  for (const int64_t column : c.dead) {
    h[column][column] = mean;
    w.select(1, column).zero_();
  }
  const ActOrder act_order = c.act_order ? ActOrder::desc : ActOrder::none;
  const at::Tensor order = column_order(act_order, h.diagonal(), c.group);
  h.diagonal().add_(0.01 * mean);
  h = h.index_select(0, order).index_select(1, order);
  return {.weight = w.index_select(1, order).contiguous(),
          .factor = at::linalg_cholesky(at::linalg_inv(h), /*upper=*/true).contiguous(),
          .scheme = scheme_of(c.bits, c.group, c.second),
          .thresholds = {}};
}

TEST(SpqrColumns, AreTheReferencesInDouble) {
  at::manual_seed(1);
  const at::Tensor weight = at::randn({32, 64}, at::kDouble);
  const at::Tensor all = at::randn({300, 64}, at::kDouble).mm(at::randn({64, 64}, at::kDouble));
  for (const ColumnsCase& c : kColumnsCases) {
    at::Tensor x = all.clone();
    for (const int64_t column : c.dead) x.select(1, column).zero_();
    const at::Tensor gram = x.t().mm(x) / 300;
    for (const OutlierRule rule : {OutlierRule::leave_one_out, OutlierRule::refined, OutlierRule::error}) {
      for (const double threshold : {HUGE_VAL, 9.0 / (1 << c.bits)}) {
        if (std::isinf(threshold) && rule != OutlierRule::refined) continue;  // nothing is kept by any rule
        const auto expected = spqr_reference(weight, gram,
                                             {.bits = c.bits,
                                              .group_size = c.group,
                                              .scale_grid = c.second,
                                              .rule = rule,
                                              .threshold = threshold,
                                              .act_order = c.act_order});
        EXPECT_EQ(expected.is_outlier.any().item<bool>(), std::isfinite(threshold));
        for (const int64_t block : {1, 48, 64}) {
          SpqrProblem problem = in_double(weight, gram, c);
          problem.rule = rule;
          problem.thresholds = at::full({32}, threshold, at::kDouble);
          problem.block_size = block;
          const SpqrColumns found = spqr_columns(std::move(problem));
          const std::string where =
              fmt::format("{} bits, groups of {}, {}, {} dead, rule {}, blocks of {}", c.bits, c.group,
                          c.act_order ? "desc" : "none", c.dead.size(), static_cast<int>(rule), block);
          EXPECT_TRUE(found.codes.to(at::kLong).equal(expected.codes)) << where;
          EXPECT_TRUE(found.scales.equal(expected.scales.to(at::kFloat))) << where;
          EXPECT_TRUE(found.zeros.equal(expected.zeros.to(at::kFloat))) << where;
          EXPECT_TRUE(found.kept.ne(0).equal(expected.is_outlier)) << where;
          EXPECT_TRUE(at::allclose(found.kept, expected.outliers, 1e-3, 1e-6)) << where;
        }
      }
    }
  }
}

/// The solver as recipes have it, in FP32: its order, its damping and what it makes of dead columns.
TEST(Spqr, EqualsTheReferenceInItsOrderAndWithDeadColumns) {
  at::manual_seed(12);
  const at::Tensor weight = at::randn({32, 64});
  for (const std::vector<int64_t>& dead : {std::vector<int64_t>{}, {5, 40, 41}}) {
    at::Tensor x = at::randn({300, 64}).mm(at::randn({64, 64}));
    for (const int64_t column : dead) x.select(1, column).zero_();
    for (const auto& [bits, group] : {std::pair{2, 16}, {3, 16}, {4, 32}}) {
      const auto found = solve({linear("l", LinearRole::up_proj, weight, scheme_of(bits, group))}, gram_of(x),
                               {{"select", std::string("density")}, {"density", 0.0}, {"damping", 0.01}})
                             .front()
                             .quantized;
      const auto expected =
          spqr_reference(weight, gram_of(x),
                         {.bits = bits, .group_size = group, .scale_grid = ScaleGrid{}, .act_order = true});
      const at::Tensor groups = inverse_order(expected.permutation).div(group, "floor").to(at::kInt);
      EXPECT_TRUE(found.group_index.equal(groups)) << bits << ' ' << dead.size();
      const at::Tensor scale = found.scales.mean();
      const at::Tensor same = (found.dequantize() - expected.values).abs() < 1e-2 * scale;
      EXPECT_GT(same.to(at::kDouble).mean().item<double>(), 0.98) << bits << ' ' << dead.size();
    }
  }
}

// A dead column with H_jj = 1, as in the paper's code, weighs more the smaller the inputs are.
TEST(Spqr, DeadColumnsCountAlikeWhateverTheUnitOfTheInputs) {
  at::manual_seed(13);
  at::Tensor x = at::randn({300, 64}).mm(at::randn({64, 64}));
  for (const int64_t column : {3, 20, 21, 50}) x.select(1, column).zero_();
  const at::Tensor gram = gram_of(x), weight = at::randn({32, 64});
  const double threshold = 1, unit = std::pow(2, -20);
  const SpqrReferenceSettings settings{.scale_grid = ScaleGrid{}, .rule = OutlierRule::refined};
  SpqrReferenceSettings here = settings, smaller = settings;
  here.threshold = threshold;
  smaller.threshold = threshold * unit;
  EXPECT_TRUE(spqr_reference(weight, gram * unit, smaller)
                  .is_outlier.equal(spqr_reference(weight, gram, here).is_outlier));
  const Choices choices = {{"select", std::string("density")}, {"density", 0.02}};
  EXPECT_TRUE(solve_one(weight, gram * unit, choices)
                  .dequantize()
                  .equal(solve_one(weight, gram, choices).dequantize()));
}

TEST(SpqrColumns, LossIsThatOfTheWeightsInFp32) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({400, 96}).mm(at::randn({96, 96}));
  const at::Tensor weight = at::randn({32, 96}), gram = gram_of(x);
  const QuantizedTensor tensor =
      solve_one(weight, gram, {{"damping", 0.0}, {"select", std::string("density")}, {"density", 0.01}});
  const double loss = token_loss(weight, tensor.dequantize(), x);
  at::Tensor delta = (tensor.dequantize() - weight).to(at::kDouble);
  EXPECT_NEAR(delta.mm(gram.to(at::kDouble)).mul(delta).sum().item<double>(), loss, 1e-3 * loss);
  EXPECT_LT(loss,
            token_loss(weight,
                       solve_one(weight, gram,
                                 {{"damping", 0.0}, {"select", std::string("density")}, {"density", 0.0}})
                           .dequantize(),
                       x));
}

TEST(Spqr, KeepsAboutTheShareThatWasAsked) {
  at::manual_seed(3);
  const at::Tensor weight = at::randn({256, 192}),
                   gram = gram_of(at::randn({600, 192}).mm(at::randn({192, 192})));
  for (const char* rule : {"leave_one_out", "refined", "error"}) {
    for (const double density : {0.0, 0.004, 0.01, 0.05}) {
      const QuantizedTensor tensor = solve_one(
          weight, gram,
          {{"outliers", std::string(rule)}, {"select", std::string("density")}, {"density", density}});
      const double share =
          static_cast<double>(tensor.outliers->count()) / static_cast<double>(weight.numel());
      EXPECT_NEAR(share, density, 0.25 * density) << rule;
    }
  }
}

TEST(Spqr, AThresholdIsInPartsOfTheLossOfSettingWeightsToTheirMean) {
  at::manual_seed(11);
  const at::Tensor weight = at::randn({32, 64});
  const at::Tensor gram = gram_of(at::randn({300, 64}).mm(at::randn({64, 64})));
  at::Tensor damped = gram.to(at::kDouble);
  damped.diagonal().add_(0.05 * damped.diagonal().mean());
  const at::Tensor factor = at::linalg_cholesky(at::linalg_inv(damped), /*upper=*/true).contiguous();
  const at::Tensor centred = weight.to(at::kDouble) - weight.to(at::kDouble).mean(0);
  const double variance_loss =
      (centred.square().sum(0) / 31 / factor.diagonal().square()).mean().item<double>();
  const double scale = spqr_loss_scale(weight, factor.to(at::kFloat));
  EXPECT_NEAR(scale / variance_loss, 1, 1e-4);
  int64_t before = weight.numel();
  for (const double tau : {0.01, 0.03, 0.1, 0.3, 1.0}) {
    const QuantizedTensor found = solve_one(
        weight, gram,
        {{"select", std::string("threshold")}, {"threshold", tau}, {"act_order", std::string("none")}});
    const auto expected = spqr_reference(
        weight.to(at::kDouble), gram.to(at::kDouble),
        {.scale_grid = ScaleGrid{}, .rule = OutlierRule::refined, .threshold = tau * scale, .damping = 0.05});
    const auto count = expected.is_outlier.sum().item<double>();
    EXPECT_NEAR(static_cast<double>(found.outliers->count()), count, 1 + 0.03 * count) << tau;
    const at::Tensor difference = (found.dequantize().to(at::kDouble) - expected.values).abs();
    EXPECT_GT(difference.lt(2e-3).to(at::kDouble).mean().item<double>(), 0.97) << tau;
    EXPECT_LT(found.outliers->count(), before) << tau;
    before = found.outliers->count();
  }
}

TEST(Spqr, OutliersAreTheWeightsToFp16) {
  at::manual_seed(4);
  at::Tensor weight = at::randn({1024, 512}) * 0.02;
  weight[17][100] = 1.5;
  weight[900][3] = -0.9;
  const QuantizedTensor tensor =
      solve_one(weight, at::eye(512), {});  // nothing moves a weight before its turn
  const at::Tensor values = tensor.dequantize();
  EXPECT_NEAR(values[17][100].item<float>(), 1.5, 1e-3);
  EXPECT_NEAR(values[900][3].item<float>(), -0.9, 1e-3);
}

TEST(Spqr, OutliersCostNoMoreThanAsked) {
  at::manual_seed(4);
  for (const int64_t width : {64, 256, 512, 2048}) {
    const at::Tensor weight = at::randn({128, width}) * 0.02;
    for (const double cost : {0.05, 0.1}) {
      const QuantizedTensor tensor = solve_one(weight, at::eye(width), {{"cost", cost}});
      const double plain = tensor.scheme.bits_per_weight(128, width) * static_cast<double>(weight.numel());
      const double offsets = 32 * 129 / plain;  // what no choice of outliers saves
      const double found = 8 * static_cast<double>(tensor.outliers->bytes()) / plain;
      if (offsets >= cost) {
        EXPECT_EQ(tensor.outliers->count(), 0) << width;
        continue;
      }
      EXPECT_LE(found, cost) << width;
      EXPECT_GT(found - offsets, 0.5 * (cost - offsets)) << width << ", " << cost;
    }
  }
}

TEST(Spqr, ReordersGroupsByThePowerOfTheInputs) {
  at::manual_seed(5);
  const at::Tensor mix = at::randn({64, 64}) * 0.2 + at::eye(64);
  const at::Tensor x = (at::randn({500, 64}) * at::linspace(0.1, 3, 64)).mm(mix),
                   weight = at::randn({64, 64});
  const QuantizedTensor ordered = solve_one(weight, gram_of(x));
  ASSERT_TRUE(ordered.group_index.defined());
  const at::Tensor power = gram_of(x).diagonal();
  for (int64_t group = 0; group + 1 < 4; ++group) {
    const auto of = [&](int64_t g) { return power.masked_select(ordered.group_index == g); };
    EXPECT_GE(of(group).min().item<float>(), of(group + 1).max().item<float>());
  }
  const QuantizedTensor plain = solve_one(weight, gram_of(x), {{"act_order", std::string("none")}});
  EXPECT_FALSE(plain.group_index.defined());
  EXPECT_LT(token_loss(weight, ordered.dequantize(), x), token_loss(weight, plain.dequantize(), x));
}

TEST(Spqr, StackedLinearsAreThoseSolvedAlone) {
  at::manual_seed(6);
  const at::Tensor gram = gram_of(at::randn({300, 64}).mm(at::randn({64, 64})));
  const auto a = linear("a", LinearRole::q_proj, at::randn({64, 64}), scheme_of());
  const auto b = linear("b", LinearRole::k_proj, at::randn({32, 64}) * 3, scheme_of());
  const auto together = solve({a, b}, gram);
  for (const auto& [alone, stacked] :
       {std::pair{solve({a}, gram)[0], together[0]}, {solve({b}, gram)[0], together[1]}}) {
    EXPECT_TRUE(alone.quantized.codes.equal(stacked.quantized.codes));
    EXPECT_TRUE(alone.quantized.dequantize().equal(stacked.quantized.dequantize()));
  }
}

void expect_refused(const at::Tensor& weight, const at::Tensor& gram, const std::string& text) {
  try {
    solve_one(weight, gram);
    FAIL() << "solved what should be refused: " << text;
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("l: "));
    EXPECT_THAT(error.what(), testing::HasSubstr(text));
  }
}

TEST(SpqrInput, NotANumberIsRefused) {
  const at::Tensor weight = at::ones({16, 32}), gram = at::eye(32);
  at::Tensor bad = weight.clone();
  bad[3][7] = std::numeric_limits<float>::quiet_NaN();
  expect_refused(bad, gram, "row 3, column 7");
  bad[3][7] = -std::numeric_limits<float>::infinity();
  expect_refused(bad, gram, "row 3, column 7");
  at::Tensor bad_gram = gram.clone();
  bad_gram[1][2] = std::numeric_limits<float>::quiet_NaN();
  expect_refused(weight, bad_gram, "Gram matrix");
}

TEST(SpqrInput, ShapesThatDontDivideAreRefused) {
  expect_refused(at::ones({16, 40}), at::eye(40), "group_size 16 does not divide");
  expect_refused(at::ones({24, 32}), at::eye(32), "scale_group 16 does not divide its 24 rows");
  expect_refused(at::ones({1, 32}), at::eye(32), "scale_group 16 does not divide its 1 rows");
  expect_refused(at::ones({16, 1}), at::eye(1), "group_size 16 does not divide");
}

TEST(SpqrInput, OneRowWithAGridOfItsOwn) {
  at::manual_seed(7);
  const at::Tensor weight = at::randn({1, 32});
  auto problem = linear("l", LinearRole::up_proj, weight, scheme_of(4, 16, {3, 1}));
  const auto result = solve({problem}, at::eye(32), {{"select", std::string("threshold")}});
  EXPECT_LT((result[0].quantized.dequantize() - weight).abs().max().item<float>(), 0.3);
}

TEST(SpqrInput, OneColumnGroups) {
  const at::Tensor weight = at::linspace(-1, 1, 16).view({16, 1});
  const auto result = solve({linear("l", LinearRole::up_proj, weight, scheme_of(3, 1))}, at::ones({1, 1}));
  EXPECT_TRUE(result[0].quantized.dequantize().isfinite().all().item<bool>());
}

TEST(SpqrInput, ZeroRowsAndConstantGroupsComeOutExact) {
  at::manual_seed(8);
  at::Tensor weight = at::randn({32, 64}) * 0.02;
  weight[4].zero_();
  weight.slice(0, 16, 32).fill_(0.5);
  const at::Tensor values = solve_one(weight, at::eye(64)).dequantize();
  EXPECT_TRUE(values[4].eq(0).all().item<bool>());
  EXPECT_TRUE(at::allclose(values.slice(0, 16, 32), weight.slice(0, 16, 32), 1e-3, 0));
  EXPECT_TRUE(solve_one(at::zeros({16, 32}), at::eye(32)).dequantize().eq(0).all().item<bool>());
}

TEST(SpqrInput, HugeWeightsAreRefusedAndDenormalOnesAreNot) {
  at::manual_seed(9);
  expect_refused(at::randn({16, 32}) * 1e9, at::eye(32), "beyond FP16");
  const at::Tensor weight = at::randn({16, 32}) * 1e-9;  // below FP16's least scale
  const at::Tensor values = solve_one(weight, at::eye(32)).dequantize();
  EXPECT_LE((values - weight).abs().max().item<float>(), 1e-7);
}

TEST(SpqrInput, FewerTokensThanChannelsAndDeadChannels) {
  at::manual_seed(10);
  at::Tensor x = at::randn({5, 64});
  x.select(1, 9).zero_();
  const at::Tensor weight = at::randn({32, 64});
  const auto results =
      solve({linear("l", LinearRole::up_proj, weight, scheme_of())}, gram_of(x), {{"damping", 0.0}});
  const at::Tensor values = results[0].quantized.dequantize();
  EXPECT_TRUE(values.isfinite().all().item<bool>());
  EXPECT_THAT(results[0].events, testing::Contains(testing::HasSubstr("could not be factorised")));
  EXPECT_THAT(results[0].events,
              testing::Contains(testing::HasSubstr("1 of 64 input channels carried no signal")));
  EXPECT_LT(token_loss(weight, values, x), 0.5 * token_loss(weight, at::zeros_like(weight), x));
}

TEST(SpqrInput, SchemesOfOthersAreRefused) {
  EXPECT_THAT(*spqr_refuses(Scheme{"int", 3, 16, false}), testing::HasSubstr("scale_bits"));
  EXPECT_THAT(*spqr_refuses(scheme_of(3, -1)), testing::HasSubstr("group_size -1"));
  EXPECT_THAT(*spqr_refuses(scheme_of(3, 256)), testing::HasSubstr("group_size 256"));
  EXPECT_FALSE(spqr_refuses(scheme_of(4, 128)));
  for (const char* name : {"rtn", "gptq", "hqq"}) {
    EXPECT_THAT(*solver_row(name).refuses(scheme_of()), testing::HasSubstr("scale_bits")) << name;
  }
}

}  // namespace
}  // namespace lathe
