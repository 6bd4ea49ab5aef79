#include "calib/stats/input_stats.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "lib/base/error.h"

namespace lathe {
namespace {

constexpr StatSet kAll{.gram = true, .mean_abs = true};

StatsCollector collector(int64_t width, StatSet wanted = kAll) {
  return StatsCollector(wanted, width, c10::kCPU, "model.layers.3, input attention_in");
}

InputStats collect(const at::Tensor& x, int64_t batch) {
  StatsCollector stats = collector(x.size(-1));
  for (int64_t token = 0; token < x.size(0); token += batch) stats.observe(x.slice(0, token, token + batch));
  return stats.finish();
}

/// The largest |a_ij - b_ij| / sqrt(b_ii b_jj): the error in units that every entry of a Gram matrix has in
/// common.
double gram_error(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor exact = b.to(at::kDouble), size = exact.diagonal().sqrt();
  return ((a.to(at::kDouble) - exact).abs() / (size.unsqueeze(1) * size.unsqueeze(0))).max().item<double>();
}

at::Tensor exact_gram(const at::Tensor& x) {
  const at::Tensor wide = x.to(at::kDouble);
  return wide.t().mm(wide) / static_cast<double>(x.size(0));
}

TEST(StatsCollector, EqualsTheDefinition) {
  at::manual_seed(1);
  for (const int64_t width : {1, 5, 512, 576, 1100}) {
    const at::Tensor x = at::randn({3, 100, width}) * (at::rand({width}) * 10);
    StatsCollector stats = collector(width);
    stats.observe(x);
    const InputStats result = stats.finish();
    EXPECT_EQ(result.tokens, 300);
    ASSERT_EQ(result.gram.sizes(), (std::vector<int64_t>{width, width}));
    EXPECT_LT(gram_error(result.gram, exact_gram(x.view({300, width}))), 1e-6) << width;
    EXPECT_TRUE(at::equal(result.gram, result.gram.t().contiguous())) << "not exactly symmetric at " << width;
    EXPECT_TRUE(at::allclose(result.mean_abs, x.abs().view({300, width}).mean(0), 1e-5, 0));
  }
}

TEST(StatsCollector, SplittingTheTokensChangesRoundingOnly) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({9000, 96}) + 3;  // more than one chunk; a mean makes the sums grow
  const at::Tensor exact = exact_gram(x);
  for (const int64_t batch : {1000, 4096, 9000, 7}) {
    const InputStats split = collect(x, batch);
    EXPECT_EQ(split.tokens, 9000);
    EXPECT_LT(gram_error(split.gram, exact), 2e-6) << batch;
    EXPECT_LT((split.mean_abs / x.to(at::kDouble).abs().mean(0) - 1).abs().max().item<double>(), 1e-6)
        << batch;
  }
}

TEST(StatsCollector, MergesToTheWhole) {
  at::manual_seed(3);
  const at::Tensor x = at::randn({500, 600});
  StatsCollector first = collector(600), second = collector(600);
  first.observe(x.slice(0, 0, 123));
  second.observe(x.slice(0, 123, 500));
  first.merge(second);
  const InputStats merged = first.finish();
  EXPECT_EQ(merged.tokens, 500);
  EXPECT_LT(gram_error(merged.gram, exact_gram(x)), 1e-6);
  EXPECT_TRUE(at::allclose(merged.mean_abs, x.abs().mean(0), 1e-5, 0));
}

TEST(StatsCollector, CollectsOnlyWhatWasAskedFor) {
  StatsCollector gram = collector(8, {.gram = true, .mean_abs = false});
  StatsCollector mean = collector(8, {.gram = false, .mean_abs = true});
  gram.observe(at::ones({2, 8}));
  mean.observe(at::ones({2, 8}));
  EXPECT_TRUE(gram.finish().gram.defined());
  EXPECT_FALSE(gram.finish().mean_abs.defined());
  EXPECT_FALSE(mean.finish().gram.defined());
  EXPECT_TRUE(mean.finish().mean_abs.defined());
  EXPECT_THROW(gram.merge(mean), InternalError);
}

TEST(StatsCollector, NamesPlaceTokenAndChannelOfANanOrInfinity) {
  for (const StatSet wanted : {kAll, StatSet{true, false}, StatSet{false, true}, StatSet{}}) {
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
      StatsCollector stats = collector(700, wanted);
      stats.observe(at::randn({10, 700}));
      at::Tensor x = at::randn({2, 3, 700});
      x[1][2][600] = bad;
      try {
        stats.observe(x);
        FAIL() << "took " << bad;
      } catch (const UserError& error) {
        EXPECT_THAT(error.what(), testing::HasSubstr("model.layers.3, input attention_in"));
        EXPECT_THAT(error.what(), testing::HasSubstr("token 15, channel 600"));
      }
    }
  }
}

TEST(StatsCollector, RefusesValuesWhoseSquaresOverflow) {
  StatsCollector stats = collector(4);
  try {
    stats.observe(at::full({2, 4}, 1e25f));
    FAIL() << "took values whose squares overflow";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("overflow FP32"));
  }
}

TEST(StatsCollector, BrokenPromisesAreInternalErrors) {
  StatsCollector stats = collector(4);
  EXPECT_THROW(stats.finish(), InternalError);
  EXPECT_THROW(stats.observe(at::ones({2, 5})), InternalError);
  EXPECT_THROW(stats.observe(at::ones({2, 4}, at::kDouble)), InternalError);
}

TEST(InputStats, DividedInputsEqualRecollecting) {
  at::manual_seed(4);
  const at::Tensor x = at::randn({400, 520}), scales = at::rand({520}) * 8 + 0.05;
  const InputStats before = collect(x, 400), divided = before.with_inputs_divided(scales),
                   again = collect(x / scales, 400);
  EXPECT_EQ(divided.tokens, 400);
  EXPECT_LT(gram_error(divided.gram, again.gram), 2e-6);
  EXPECT_TRUE(at::allclose(divided.mean_abs, again.mean_abs, 1e-5, 0));
  EXPECT_TRUE(at::equal(divided.gram, divided.gram.t().contiguous()));
  EXPECT_TRUE(at::equal(before.gram, collect(x, 400).gram)) << "the original was changed";
}

}  // namespace
}  // namespace lathe
