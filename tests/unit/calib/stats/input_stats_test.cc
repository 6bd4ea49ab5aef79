#include "calib/stats/input_stats.h"

#include "tests/unit/calib/stats/collect.h"

namespace lathe {
namespace {

TEST(InputStats, DividedInputsEqualRecollecting) {
  at::manual_seed(4);
  const at::Tensor x = at::randn({400, 520}), scales = at::rand({520}) * 8 + 0.05;
  const InputStats before = collect(x, 400), divided = before.with_inputs_divided(scales),
                   again = collect(x / scales, 400);
  EXPECT_EQ(divided.tokens, 400);
  EXPECT_LT(gram_error(divided.gram, again.gram), 2e-6);
  EXPECT_TRUE(at::equal(divided.gram, divided.gram.t().contiguous()));
  EXPECT_LT(relative_error(divided.mean_abs, again.mean_abs), 1e-6);
  EXPECT_LT(relative_error(divided.mean_square, again.mean_square), 1e-6);
  for (const auto range : {&InputStats::min_max, &InputStats::ema_min_max}) {
    EXPECT_LT(relative_error((divided.*range).low, (again.*range).low), 1e-6);
    EXPECT_LT(relative_error((divided.*range).high, (again.*range).high), 1e-6);
  }
  EXPECT_LT(relative_error(divided.kurtosis, again.kurtosis), 1e-5);
  EXPECT_TRUE(at::equal(before.gram, collect(x, 400).gram)) << "the original was changed";
}

TEST(InputStats, DividesInPlaceOnlyWhatNobodyElseHolds) {
  at::manual_seed(7);
  const at::Tensor x = at::randn({100, 520}), scales = at::rand({520}) + 0.1;
  const at::Tensor expected = collect(x, 100).with_inputs_divided(scales).gram;
  InputStats owned = collect(x, 100);
  const void* const memory = owned.gram.data_ptr();
  owned = std::move(owned).with_inputs_divided(scales);
  EXPECT_EQ(owned.gram.data_ptr(), memory) << "a second matrix";
  EXPECT_TRUE(at::equal(owned.gram, expected));

  InputStats shared = collect(x, 100);
  const InputStats other = shared;
  const at::Tensor rows = other.gram.slice(0, 3, 5), before = rows.clone();
  EXPECT_TRUE(at::equal(std::move(shared).with_inputs_divided(scales).gram, expected));
  EXPECT_TRUE(at::equal(rows, before)) << "what another holds was changed";
}

TEST(InputStats, WhatCannotFollowADivisionIsNamed) {
  at::manual_seed(5);
  const InputStats before = collect(at::randn({20, 8}), 20);
  EXPECT_EQ(before.lost, StatSet{});
  const InputStats divided = before.with_inputs_divided(at::full({8}, 2.0f));
  EXPECT_EQ(divided.lost, kLostByDivision);
  EXPECT_EQ(divided.held() & kLostByDivision, StatSet{});
  EXPECT_EQ(divided.held() | divided.lost, kEverything) << "a statistic is neither carried over nor named";
  EXPECT_EQ(divided.with_inputs_divided(at::ones({8})).lost, kLostByDivision) << "forgot the first fold";
  EXPECT_TRUE(before.kurtosis_all.defined() && before.step_min_max.defined());
  EXPECT_FALSE(divided.kurtosis_all.defined()) << "of all values: not a number that could be read as one";
  EXPECT_FALSE(divided.step_min_max.defined());
  const InputStats gram = collect(at::randn({20, 8}), 20, {.gram = true});
  EXPECT_FALSE(gram.kurtosis_all.defined()) << "nobody asked";
  EXPECT_EQ(gram.with_inputs_divided(at::ones({8})).lost, StatSet{}) << "nothing was lost";
}

TEST(InputStats, TheCrossGramFollowsADivisionOfBothStreams) {
  at::manual_seed(6);
  const at::Tensor x = at::randn({300, 20}), reference = x + at::randn({300, 20}) * 0.1;
  const at::Tensor scales = at::rand({20}) + 0.5;
  const auto cross = [](const at::Tensor& a, const at::Tensor& b) {
    StatsCollector stats = collector(20, {.cross_gram = true});
    stats.observe_pair(a, b);
    return stats.finish();
  };
  EXPECT_TRUE(at::allclose(cross(x, reference).with_inputs_divided(scales).cross_gram,
                           cross(x / scales, reference / scales).cross_gram, 1e-4, 1e-6));
}

}  // namespace
}  // namespace lathe
