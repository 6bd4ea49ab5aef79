#include "algorithms/gptq.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "algorithms/gptq_columns.h"
#include "algorithms/gptq_reference.h"
#include "algorithms/inverse_factor.h"
#include "algorithms/weight_range.h"
#include "lib/base/error.h"
#include "tests/unit/algorithms/problems.h"
#include "tests/unit/kernels/rounded.h"

namespace lathe {
namespace {

using testing_problems::correlated_tokens;
using testing_problems::gptq_options_with;
using testing_problems::linear;
using testing_problems::solver_row;
using testing_problems::stats_of_pair;

std::vector<SolveResult> solve(std::vector<LinearProblem> linears, const InputStats& stats,
                               const std::map<std::string, OptionValue>& values = {}) {
  SharedInputProblem problem;
  problem.linears = std::move(linears);
  problem.stats = &stats;
  return solver_row("gptq").make(gptq_options_with(values))->solve(problem);
}

InputStats stats_of_gram(at::Tensor gram) {
  InputStats stats;
  stats.tokens = 1;
  stats.gram = std::move(gram);
  return stats;
}

double loss_of(const at::Tensor& weight, const QuantizedTensor& quantized, const at::Tensor& gram) {
  const at::Tensor d = (quantized.dequantize() - weight).to(at::kDouble);
  return d.mm(gram.to(at::kDouble)).mul(d).sum().item<double>();
}

struct Variant {
  std::string act_order;
  bool static_groups;
};
const Variant kVariants[] = {{"none", true},  {"none", false}, {"desc", true},
                             {"desc", false}, {"gar", true},   {"gar", false}};

ActOrder act_order(const std::string& word) {
  return word == "desc" ? ActOrder::desc : word == "gar" ? ActOrder::gar : ActOrder::none;
}

std::vector<Scheme> some_schemes() {
  return {{"int", 4, 16, true}, {"int", 4, 16, false}, {"int", 3, 32, false},
          {"int", 2, -1, true}, {"int", 8, 16, false}, {"int", 5, 48, true}};
}

TEST(Gptq, EqualsTheReferenceForEveryOption) {
  at::manual_seed(1);
  const int64_t in = 96;
  const InputStats stats = testing_problems::stats_of(correlated_tokens(400, in));
  const at::Tensor weight = at::randn({11, in});
  for (const Variant& variant : kVariants) {
    for (const Scheme& scheme : some_schemes()) {
      const GptqReferenceResult expected = gptq_reference({.weight = weight.to(at::kDouble),
                                                           .gram = stats.gram.to(at::kDouble),
                                                           .scheme = scheme,
                                                           .act_order = act_order(variant.act_order),
                                                           .static_groups = variant.static_groups,
                                                           .damping = 0.05});
      const QuantizedTensor found = solve({linear("l", LinearRole::up_proj, weight, scheme)}, stats,
                                          {{"act_order", variant.act_order},
                                           {"static_groups", variant.static_groups},
                                           {"range", std::string("minmax")},
                                           {"damping", 0.05},
                                           {"block_size", int64_t{40}}})
                                        .front()
                                        .quantized;
      const std::string where =
          scheme.describe() + " " + variant.act_order + (variant.static_groups ? " static" : " on the way");
      // FP32 rounds a weight in the middle between two codes otherwise now and then, and the row goes its own
      // way.
      const double same = (found.codes == expected.quantized.codes).to(at::kDouble).mean().item<double>();
      EXPECT_GT(same, 0.98) << where;
      EXPECT_NEAR(loss_of(weight, found, stats.gram), loss_of(weight, expected.quantized, stats.gram),
                  0.02 * expected.loss)
          << where;
      EXPECT_EQ(found.group_index.defined(), expected.quantized.group_index.defined()) << where;
      if (found.group_index.defined()) {
        EXPECT_TRUE(at::equal(found.group_index, expected.quantized.group_index)) << where;
      }
      EXPECT_TRUE(at::equal(round_to(found.scales, DType::F16), found.scales)) << where;
    }
  }
}

/// Which part of the codes and of the groups' scales is the reference's.
struct Agreement {
  double codes, scales;
};
Agreement agreement(const QuantizedTensor& found, const QuantizedTensor& expected) {
  const auto share = [](const at::Tensor& same) { return same.to(at::kDouble).mean().item<double>(); };
  return {share(found.codes == expected.codes), share(found.scales == expected.scales)};
}

// The shipped recipes' settings: weighted ranges, the move to the reference; and channels without a signal.
TEST(Gptq, EqualsTheReferenceWithWeightedRangesAndDeadColumns) {
  at::manual_seed(12);
  const int64_t in = 96;
  const at::Tensor reference = correlated_tokens(400, in);
  at::Tensor x = reference + 0.3 * at::randn({400, in}) * reference.std(0);
  for (const int64_t dead : {5, 40, 41}) x.select(1, dead).zero_();
  const InputStats stats = stats_of_pair(x, reference);
  at::Tensor weight = at::randn({11, in});
  weight.select(1, 40).fill_(9);  // would stretch the range of its group
  for (const Variant& variant : kVariants) {
    for (const char* importance : {"diagonal", "inverse"}) {
      for (const double share : {0.0, 0.5}) {
        Agreement mean{0, 0};
        for (const Scheme& scheme : some_schemes()) {
          const bool inverse = std::string(importance) == "inverse";
          const QuantizedTensor expected =
              gptq_reference({.weight = weight.to(at::kDouble),
                              .gram = stats.gram.to(at::kDouble),
                              .scheme = scheme,
                              .act_order = act_order(variant.act_order),
                              .static_groups = variant.static_groups,
                              .damping = 0.05,
                              .range = inverse ? GptqReferenceRange::inverse : GptqReferenceRange::diagonal,
                              .match_reference = share,
                              .cross_gram = stats.cross_gram.to(at::kDouble)})
                  .quantized;
          const QuantizedTensor found = solve({linear("l", LinearRole::up_proj, weight, scheme)}, stats,
                                              {{"act_order", variant.act_order},
                                               {"static_groups", variant.static_groups},
                                               {"importance", std::string(importance)},
                                               {"match_reference", share},
                                               {"damping", 0.05}})
                                            .front()
                                            .quantized;
          const std::string where =
              fmt::format("{} {} {} {} {}", scheme.describe(), variant.act_order,
                          variant.static_groups ? "static" : "on the way", importance, share);
          EXPECT_EQ(found.dequantize().select(1, 40).abs().max().item<float>(), 0) << where;
          EXPECT_EQ(expected.dequantize().select(1, 40).abs().max().item<float>(), 0) << where;
          if (variant.static_groups && share == 0 && !inverse) {
            EXPECT_TRUE(at::equal(found.scales, expected.scales)) << where;
          }
          const Agreement same = agreement(found, expected);
          mean.codes += same.codes / static_cast<double>(some_schemes().size());
          mean.scales += same.scales / static_cast<double>(some_schemes().size());
        }
        // A range that is as good but for FP32's rounding, or a tie between two codes: its row goes its own
        // way.
        EXPECT_GT(mean.codes, 0.98) << variant.act_order << variant.static_groups << importance << share;
        EXPECT_GT(mean.scales, 0.98) << variant.act_order << variant.static_groups << importance << share;
      }
    }
  }
}

at::Tensor global_of(const at::Tensor& weight, const Scheme& scheme) {
  if (!scheme.has_global_scale()) return {};
  return kernels::global_scale(weight.abs().max().to(at::kFloat));
}

/// The column loop in FP64 with the factor of inverse_factor(), min-max grids. Codes as the columns stand.
RoundedColumns round_in_fp64(const at::Tensor& weight, const at::Tensor& gram, const Scheme& scheme,
                             double damping, int64_t block_size, const Variant& variant = {"none", true}) {
  const int64_t in = weight.size(1), length = scheme.group_length(in);
  const at::Tensor order = column_order(act_order(variant.act_order), gram.diagonal(), length);
  at::Tensor damped = gram.index_select(0, order).index_select(1, order).contiguous();
  damped.diagonal().add_(damped.diagonal().mean() * damping);
  const bool regrouped = variant.act_order == "desc" && !variant.static_groups;
  const at::Tensor place = regrouped ? at::arange(in) : order, global = global_of(weight, scheme);
  ColumnProblem problem{.weight = weight.index_select(1, order).contiguous(),
                        .factor = inverse_factor(damped).value(),
                        .column_group = place.div(length, "floor").to(at::kInt),
                        .scheme = scheme,
                        .params = kernels::group_params(kernels::group_min_max(weight.to(at::kFloat), scheme),
                                                        scheme, DType::F16, global),
                        .grid = {},
                        .block_size = block_size};
  if (!variant.static_groups) {
    problem.grid = [&scheme, &global](const at::Tensor& weights, int64_t) {
      return kernels::group_params(kernels::group_min_max(weights, scheme), scheme, DType::F16, global);
    };
  }
  RoundedColumns rounded = round_columns(std::move(problem));
  rounded.codes = rounded.codes.index_select(1, inverse_order(order));
  return rounded;
}

std::vector<Scheme> exact_schemes() {
  std::vector<Scheme> schemes = {Scheme{"int", 4, 32, true}, Scheme{"int", 3, 64, false}};
  for (const FloatGridType& grid : float_grid_types()) schemes.push_back(Scheme::of_floats(grid.name));
  return schemes;
}

TEST(Gptq, InFp64EveryOrderIsBitEqualToTheReference) {
  at::manual_seed(13);
  const int64_t in = 192;
  const at::Tensor x = correlated_tokens(400, in).to(at::kDouble);
  const at::Tensor gram = x.t().mm(x) / 400, weight = at::randn({13, in}).to(at::kDouble);
  for (const Variant& variant : kVariants) {
    for (const Scheme& scheme : exact_schemes()) {
      const GptqReferenceResult expected = gptq_reference({.weight = weight,
                                                           .gram = gram,
                                                           .scheme = scheme,
                                                           .act_order = act_order(variant.act_order),
                                                           .static_groups = variant.static_groups,
                                                           .global = global_of(weight, scheme)});
      for (const int64_t block_size : {7, 64, 1024}) {
        const RoundedColumns found = round_in_fp64(weight, gram, scheme, 0.01, block_size, variant);
        const std::string where = fmt::format("{} {} {} {}", scheme.describe(), variant.act_order,
                                              variant.static_groups ? "static" : "on the way", block_size);
        EXPECT_TRUE(at::equal(found.codes, expected.quantized.codes)) << where;
        EXPECT_TRUE(at::equal(found.params.scales, expected.quantized.scales)) << where;
        EXPECT_NEAR(found.loss.sum().item<double>(), expected.loss, 1e-9 * expected.loss) << where;
      }
    }
  }
}

TEST(Gptq, InFp64IsBitEqualToTheReferenceWhateverTheBlocks) {
  at::manual_seed(2);
  const int64_t in = 320;
  const at::Tensor x = correlated_tokens(500, in).to(at::kDouble);
  const at::Tensor gram = x.t().mm(x) / 500, weight = at::randn({19, in}).to(at::kDouble);
  for (const Scheme& scheme : {Scheme{"int", 4, 32, true}, Scheme{"int", 3, 64, false}}) {
    const GptqReferenceResult expected =
        gptq_reference({.weight = weight, .gram = gram, .scheme = scheme, .damping = 0.01});
    for (const int64_t block_size : {1, 7, 64, 128, 200, 1024}) {
      const RoundedColumns found = round_in_fp64(weight, gram, scheme, 0.01, block_size);
      EXPECT_TRUE(at::equal(found.codes, expected.quantized.codes)) << block_size;
      EXPECT_TRUE(at::equal(found.params.scales, expected.quantized.scales)) << block_size;
      EXPECT_NEAR(found.loss.sum().item<double>(), expected.loss, 1e-9 * expected.loss) << block_size;
    }
  }
}

TEST(Gptq, ItsLossIsTheOutputErrorOfTheDampedHessian) {
  at::manual_seed(3);
  const int64_t in = 128;
  const at::Tensor x = correlated_tokens(300, in).to(at::kDouble);
  const at::Tensor gram = x.t().mm(x) / 300, weight = at::randn({8, in}).to(at::kDouble);
  const Scheme scheme{"int", 3, 32, false};
  const RoundedColumns found = round_in_fp64(weight, gram, scheme, 0.02, 48);
  at::Tensor damped = gram.clone();
  damped.diagonal().add_(damped.diagonal().mean() * 0.02);
  const at::Tensor d =
      test::tensor_of({found.params, found.codes}, scheme).dequantize().to(at::kDouble) - weight;
  EXPECT_TRUE(at::allclose(found.loss, d.mm(damped).mul(d).sum(1), 1e-8));
}

// OBQ (section 3.1) itself: the inverse of the Hessian of the weights that remain, made anew for each weight.
at::Tensor brute_force_obq(const at::Tensor& weight, const at::Tensor& hessian, double scale, int qmin,
                           int qmax) {
  at::Tensor w = weight.clone();
  const int64_t n = w.size(1);
  at::Tensor codes = at::empty({w.size(0), n}, at::kChar);
  for (int64_t row = 0; row < w.size(0); ++row) {
    for (int64_t q = 0; q < n; ++q) {
      const at::Tensor inverse = hessian.slice(0, q).slice(1, q).inverse();  // of weights q .. n - 1
      const double value = w[row][q].item<double>();
      const double code = std::clamp(std::nearbyint(value / scale), double(qmin), double(qmax));
      codes[row][q] = code;
      // equation 2: delta = -(w_q - quant(w_q)) / [H^-1]_qq (H^-1)_:,q
      const at::Tensor delta =
          inverse.select(1, 0) * (-(value - scale * code) / inverse[0][0].item<double>());
      w[row].slice(0, q).add_(delta);
    }
  }
  return codes;
}

TEST(Gptq, EqualsBruteForceObqInTheSameOrder) {
  at::manual_seed(4);
  for (int64_t n = 1; n <= 8; ++n) {
    const at::Tensor x = at::randn({20, n}, at::kDouble).mm(at::randn({n, n}, at::kDouble));
    const at::Tensor gram = x.t().mm(x) / 20, weight = at::randn({6, n}, at::kDouble) * 2;
    at::Tensor damped = gram.clone();
    damped.diagonal().add_(damped.diagonal().mean() * 0.01);
    const Scheme scheme{"int", 3, -1, true};
    const RoundedColumns found = round_columns({.weight = weight.clone(),
                                                .factor = inverse_factor(damped.clone()).value(),
                                                .column_group = at::zeros({n}, at::kInt),
                                                .scheme = scheme,
                                                .params = {at::full({6, 1}, 0.75f), {}},
                                                .grid = {},
                                                .block_size = 3});
    EXPECT_TRUE(at::equal(found.codes, brute_force_obq(weight, damped, 0.75, -4, 3))) << n;
  }
}

TEST(Gptq, AnIdentityHessianGivesRoundToNearest) {
  at::manual_seed(5);
  const at::Tensor weight = at::randn({9, 64});
  const LinearProblem problem = linear("l", LinearRole::up_proj, weight, {"int", 4, 16, false});
  for (const Variant& variant : kVariants) {
    const QuantizedTensor found = solve({problem}, stats_of_gram(at::eye(64)),
                                        {{"act_order", variant.act_order},
                                         {"static_groups", variant.static_groups},
                                         {"range", std::string("minmax")}})
                                      .front()
                                      .quantized;
    EXPECT_TRUE(at::equal(found.dequantize(), testing_problems::round_to_nearest(problem)))
        << variant.act_order << variant.static_groups;
    // Equal diagonals leave the columns as they stand, so that groups in the order of rounding are
    // neighbours.
    const bool regrouped = variant.act_order == "desc" && !variant.static_groups;
    ASSERT_EQ(found.group_index.defined(), regrouped);
    if (!regrouped) continue;
    EXPECT_TRUE(at::equal(found.group_index, at::arange(64).div(16, "floor").to(at::kInt)));
  }
}

// Groups that an order scatters are rounded to nearest, too, each by its own columns' range.
TEST(Gptq, ADiagonalHessianGivesRoundToNearestOfTheReorderedColumns) {
  at::manual_seed(15);
  const at::Tensor weight = at::randn({9, 64}), power = at::randperm(64).to(at::kFloat) + 1;
  const Scheme scheme{"int", 4, 16, false};
  const QuantizedTensor found =
      solve({linear("l", LinearRole::up_proj, weight, scheme)}, stats_of_gram(at::diag(power)),
            {{"act_order", std::string("desc")}, {"static_groups", false}, {"range", std::string("minmax")}})
          .front()
          .quantized;
  const at::Tensor order = power.argsort(/*stable=*/true, 0, /*descending=*/true);
  const at::Tensor rounded = testing_problems::round_to_nearest(
      linear("l", LinearRole::up_proj, weight.index_select(1, order).contiguous(), scheme));
  EXPECT_TRUE(at::equal(found.dequantize().index_select(1, order), rounded));
}

TEST(Gptq, IsBetterThanRoundToNearestInOutputError) {
  at::manual_seed(6);
  const at::Tensor x = correlated_tokens(600, 128), weight = at::randn({32, 128});
  const InputStats stats = testing_problems::stats_of(x);
  const LinearProblem problem = linear("l", LinearRole::up_proj, weight, {"int", 4, 32, true});
  const double plain = testing_problems::token_loss(weight, testing_problems::round_to_nearest(problem), x);
  for (const Variant& variant : kVariants) {
    const QuantizedTensor found =
        solve({problem}, stats,
              {{"act_order", variant.act_order}, {"static_groups", variant.static_groups}, {"damping", 0.01}})
            .front()
            .quantized;
    EXPECT_LT(testing_problems::token_loss(weight, found.dequantize(), x), 0.6 * plain)
        << variant.act_order << variant.static_groups;
  }
}

TEST(Gptq, MatchingTheReferenceRoundsTheWeightsThatGiveItsOutputs) {
  at::manual_seed(13);
  const int64_t in = 96;
  const at::Tensor reference = correlated_tokens(500, in), weight = at::randn({24, in});
  at::Tensor x = reference + 0.3 * at::randn({500, in}) * reference.std(0);
  for (const int64_t dead : {5, 40}) x.select(1, dead).zero_();
  const InputStats stats = stats_of_pair(x, reference);
  // min over W* of |W* X^T - W X_ref^T|^2 + damping * mean(diag H) * tokens * |W* - W|^2, in FP64; dead
  // weights are 0.
  const at::Tensor dead = stats.gram.diagonal() <= 0, live = at::nonzero(dead.logical_not()).view({-1});
  const at::Tensor a = x.index_select(1, live).to(at::kDouble),
                   start = weight.masked_fill(dead, 0).to(at::kDouble);
  const at::Tensor gap = (reference - x).to(at::kDouble).mm(start.t());  // [tokens, out]
  const at::Tensor gram = a.t().mm(a) / 500;
  const at::Tensor damped = gram + 0.02 * gram.diagonal().mean() * at::eye(live.numel(), at::kDouble);
  const at::Tensor full_move = at::zeros_like(start);
  full_move.index_copy_(1, live, at::linalg_solve(damped, a.t().mm(gap) / 500).t());
  const auto outputs_missed = [&](const at::Tensor& found) {
    const at::Tensor missed = x.to(at::kDouble).mm(found.to(at::kDouble).t()) -
                              reference.to(at::kDouble).mm(weight.to(at::kDouble).t());
    return missed.square().sum().item<double>();
  };
  const Scheme scheme{"int", 4, 32, false};
  double before =
      outputs_missed(solve({linear("l", LinearRole::up_proj, weight, scheme)}, stats, {{"damping", 0.02}})
                         .front()
                         .quantized.dequantize());
  for (const double share : {0.5, 1.0}) {
    for (const std::string order : {"none", "desc", "gar"}) {
      const QuantizedTensor found =
          solve({linear("l", LinearRole::up_proj, weight, scheme)}, stats,
                {{"damping", 0.02}, {"match_reference", share}, {"act_order", order}})
              .front()
              .quantized;
      const at::Tensor target = (start + share * full_move).to(at::kFloat);
      const QuantizedTensor expected = solve({linear("l", LinearRole::up_proj, target, scheme)}, stats,
                                             {{"damping", 0.02}, {"act_order", order}})
                                           .front()
                                           .quantized;
      const double same = (found.codes == expected.codes).to(at::kDouble).mean().item<double>();
      EXPECT_GT(same, 0.98) << order << share;
      EXPECT_TRUE(at::allclose(found.scales, expected.scales, 1e-2)) << order << share;
    }
    const double after = outputs_missed(solve({linear("l", LinearRole::up_proj, weight, scheme)}, stats,
                                              {{"damping", 0.02}, {"match_reference", share}})
                                            .front()
                                            .quantized.dequantize());
    EXPECT_LT(after, 0.95 * before) << share;
    before = after;
  }
}

TEST(Gptq, MatchingAReferenceThatIsTheSameChangesNothing) {
  at::manual_seed(14);
  const at::Tensor x = correlated_tokens(300, 64);
  const LinearProblem problem = linear("l", LinearRole::up_proj, at::randn({16, 64}), {"int", 4, 32, true});
  const QuantizedTensor plain = solve({problem}, stats_of_pair(x, x)).front().quantized;
  const QuantizedTensor matched =
      solve({problem}, stats_of_pair(x, x), {{"match_reference", 1.0}}).front().quantized;
  EXPECT_GT((plain.codes == matched.codes).to(at::kDouble).mean().item<double>(), 0.99);
}

TEST(Gptq, LinearsOfOneInputAreSolvedAsIfAlone) {
  at::manual_seed(7);
  const InputStats stats = testing_problems::stats_of(correlated_tokens(300, 64));
  const std::vector<LinearProblem> all = {
      linear("q", LinearRole::q_proj, at::randn({24, 64}), {"int", 4, 32, true}),
      linear("k", LinearRole::k_proj, at::randn({7, 64}), {"int", 3, 16, false}),
      linear("v", LinearRole::v_proj, at::randn({9, 64}), {"int", 4, 32, true})};
  for (const std::string order : {"none", "desc", "gar"}) {
    const auto together = solve(all, stats, {{"act_order", order}});
    ASSERT_EQ(together.size(), 3u);
    for (size_t k = 0; k < all.size(); ++k) {
      const SolveResult alone = solve({all[k]}, stats, {{"act_order", order}}).front();
      EXPECT_TRUE(at::equal(alone.quantized.codes, together[k].quantized.codes)) << k;
      EXPECT_TRUE(at::equal(alone.quantized.scales, together[k].quantized.scales)) << k;
      EXPECT_EQ(together[k].quantized.scheme, all[k].scheme);
    }
  }
}

TEST(Gptq, GivesTheSameBytesWithOneAndTwoThreads) {
  at::manual_seed(8);
  const InputStats stats = testing_problems::stats_of(correlated_tokens(900, 768));
  const LinearProblem problem =
      linear("l", LinearRole::up_proj, at::randn({200, 768}), {"int", 4, 64, false});
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const QuantizedTensor one = solve({problem}, stats).front().quantized;
  at::set_num_threads(2);
  const QuantizedTensor two = solve({problem}, stats).front().quantized;
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(one.codes, two.codes));
  EXPECT_TRUE(at::equal(one.scales, two.scales));
  EXPECT_TRUE(at::equal(one.zero_points, two.zero_points));
}

TEST(Gptq, BlockSizeChangesResultsByRoundingOnly) {
  at::manual_seed(9);
  const InputStats stats = testing_problems::stats_of(correlated_tokens(700, 256));
  const at::Tensor weight = at::randn({64, 256});
  const LinearProblem problem = linear("l", LinearRole::up_proj, weight, {"int", 4, 64, true});
  for (const bool static_groups : {true, false}) {
    const auto found = [&](int64_t block_size) {
      return solve({problem}, stats,
                   {{"act_order", std::string("gar")},
                    {"static_groups", static_groups},
                    {"block_size", block_size}})
          .front()
          .quantized;
    };
    const QuantizedTensor usual = found(128);
    const double loss = loss_of(weight, usual, stats.gram);
    for (const int64_t block_size : {1, 48, 100, 256, 4096}) {
      const QuantizedTensor other = found(block_size);
      EXPECT_GT((other.codes == usual.codes).to(at::kDouble).mean().item<double>(), 0.99) << block_size;
      EXPECT_NEAR(loss_of(weight, other, stats.gram), loss, 0.01 * loss) << block_size;
    }
  }
}

TEST(Gptq, TakesAnOfferedRangeWhereItIsToldTo) {
  at::manual_seed(10);
  const InputStats stats = testing_problems::stats_of(correlated_tokens(300, 64));
  LinearProblem problem = linear("l", LinearRole::up_proj, at::randn({4, 64}), {"int", 4, 32, true});
  problem.range = GroupRange{at::full({4, 2}, -1.5f), at::full({4, 2}, 1.5f)};
  const at::Tensor offered = solve({problem}, stats, {{"offered_range", true}}).front().quantized.scales;
  EXPECT_TRUE(at::allclose(offered, at::full({4, 2}, 0.2f), 1e-3));
  const at::Tensor own = solve({problem}, stats).front().quantized.scales;
  EXPECT_FALSE(at::allclose(own, offered, 1e-3));
  EXPECT_THROW(
      solver_row("gptq").make(gptq_options_with({{"offered_range", true}, {"static_groups", false}})),
      UserError);
}

TEST(Gptq, SaysWhichSchemesItReordersGroupsOf) {
  const Scheme groups{"int", 4, 32, true}, rows{"int", 4, -1, true};
  const auto make = [](const Variant& v) {
    return solver_row("gptq").make(
        gptq_options_with({{"act_order", v.act_order}, {"static_groups", v.static_groups}}));
  };
  for (const Variant& variant : kVariants) {
    const bool expected = variant.act_order == "desc" && !variant.static_groups;
    EXPECT_EQ(make(variant)->reorders_groups(groups), expected);
    EXPECT_FALSE(make(variant)->reorders_groups(rows));
  }
  EXPECT_FALSE(solver_row("rtn").make(Options(solver_row("rtn").options))->reorders_groups(groups));
}

TEST(Gptq, RangesAreWeightedByTheDiagonalOrByTheInversesAsAsked) {
  at::manual_seed(11);
  const InputStats stats = testing_problems::stats_of(correlated_tokens(900, 192));
  const LinearProblem problem = linear("l", LinearRole::up_proj, at::randn({96, 192}), {"int", 3, 64, true});
  const at::Tensor gram = stats.gram.to(at::kDouble), damp = 0.01 * gram.diagonal().mean() * at::eye(192);
  const auto expected = [&](const at::Tensor& importance) {
    const GroupRange range =
        weight_range(problem.weight, problem.scheme, problem.scale_dtype, {.method = RangeMethod::weighted},
                     "l", importance.to(at::kFloat).contiguous());
    return kernels::group_params(range, problem.scheme, problem.scale_dtype).scales;
  };
  const auto scales = [&](const std::map<std::string, OptionValue>& values) {
    return solve({problem}, stats, values).front().quantized.scales;
  };
  const at::Tensor inverse = (gram + damp).inverse().diagonal().reciprocal();
  // FP32's inverse may choose the neighbour of a step that is as good.
  const auto differing = [](const at::Tensor& a, const at::Tensor& b) {
    return a.ne(b).sum().item<int64_t>();
  };
  EXPECT_LE(differing(scales({{"importance", std::string("inverse")}}), expected(inverse)), 3);
  EXPECT_EQ(differing(scales({}), expected(gram.diagonal())), 0);
  EXPECT_GT(differing(expected(inverse), expected(gram.diagonal())), 20);
}

TEST(Gptq, WeightedRangesLeaveLessErrorThanMinMax) {
  at::manual_seed(11);
  const InputStats stats = testing_problems::stats_of(correlated_tokens(900, 192));
  const at::Tensor weight = at::randn({96, 192});
  const auto loss = [&](const std::map<std::string, OptionValue>& values) {
    const LinearProblem problem = linear("l", LinearRole::up_proj, weight, {"int", 3, 64, true});
    return loss_of(weight, solve({problem}, stats, values).front().quantized, stats.gram);
  };
  EXPECT_LT(loss({}), 0.9 * loss({{"range", std::string("minmax")}}));
}

}  // namespace
}  // namespace lathe
