#include "calib/stats/stats_collector.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>

#include <cmath>

#include "lib/base/error.h"
#include "tests/unit/calib/stats/collect.h"

namespace lathe {
namespace {

constexpr int64_t kChunk = StatsCollector::kChunkTokens;
/// What FP32 sums of a chunk's products promise, whoever adds them: one BLAS reaches 0.9e-6, another 1.2e-6.
const double kGramBound = std::sqrt(static_cast<double>(kChunk)) * std::ldexp(1, -24);
constexpr StatSet kBoth{.gram = true, .mean_abs = true};

/// Tokens with outlier channels, a mean and a negative zero.
at::Tensor awkward_tokens(int64_t tokens, int64_t width) {
  at::Tensor x = at::randn({tokens, width}) + 0.5;
  x.select(1, width / 2).mul_(40);
  x.select(1, 0).fill_(-0.0);
  x[tokens / 2][0] = 0.0;
  return x;
}

TEST(StatsCollector, EqualsTheDefinition) {
  at::manual_seed(1);
  for (const int64_t width : {1, 5, 512, 576, 1100}) {
    const at::Tensor x = at::randn({3, 100, width}) * (at::rand({width}) * 10 + 0.5) + at::randn({width});
    StatsCollector stats = collector(width);
    stats.observe(x);
    const InputStats result = stats.finish();
    const at::Tensor rows = x.view({300, width}), wide = rows.to(at::kDouble);
    EXPECT_EQ(result.tokens, 300);
    ASSERT_EQ(result.gram.sizes(), (std::vector<int64_t>{width, width}));
    EXPECT_LT(gram_error(result.gram, exact_gram(rows)), kGramBound) << width;
    EXPECT_TRUE(at::equal(result.gram, result.gram.t().contiguous())) << "not exactly symmetric at " << width;
    EXPECT_LT(relative_error(result.mean_abs, wide.abs().mean(0)), 1e-6);
    EXPECT_LT(relative_error(result.mean_square, wide.square().mean(0)), 1e-7);
    EXPECT_TRUE(at::equal(result.min_max.low, rows.amin(0)));
    EXPECT_TRUE(at::equal(result.min_max.high, rows.amax(0)));
    EXPECT_TRUE(at::equal(result.token_min_max.low, rows.amin(1)));
    EXPECT_TRUE(at::equal(result.token_min_max.high, rows.amax(1)));
    EXPECT_TRUE(at::equal(result.outliers, (rows.abs() >= 6).sum(0)));
    const at::Tensor centred = wide - wide.mean(0);
    const at::Tensor kurtosis = centred.pow(4).mean(0) / centred.square().mean(0).square();
    EXPECT_LT(relative_error(result.kurtosis, kurtosis), 1e-6);
    const at::Tensor all = wide - wide.mean();
    EXPECT_LT(relative_error(result.kurtosis_all, all.pow(4).mean() / all.square().mean().square()), 1e-9);
  }
}

TEST(StatsCollector, ALimitedGramMatrixIsOfTheFirstChunksAlone) {
  at::manual_seed(20);
  const at::Tensor x = at::randn({3 * kChunk + 100, 24}), weights = at::rand({x.size(0)}) + 0.5;
  const auto limited = [&](int64_t tokens, int64_t batch, const at::Tensor& weight) {
    StatsCollector stats = collector(24, {.gram = true, .mean_square = true});
    stats.limit_gram(tokens);
    for (int64_t token = 0; token < x.size(0); token += batch) {
      stats.observe(x.slice(0, token, token + batch), {},
                    weight.defined() ? weight.slice(0, token, token + batch) : weight);
    }
    return stats.finish();
  };
  const at::Tensor head = x.slice(0, 0, 2 * kChunk);
  const InputStats some = limited(kChunk + 1, 512, {});
  EXPECT_EQ(some.tokens, x.size(0));
  EXPECT_EQ(some.gram_tokens, 2 * kChunk);
  EXPECT_TRUE(same_bits(some.gram, collect(head, 512, kBoth).gram));
  EXPECT_LT(relative_error(some.mean_square, x.to(at::kDouble).square().mean(0)), 1e-6) << "of all tokens";
  for (const int64_t batch : {1000, 7000}) expect_same_bits(limited(kChunk + 1, batch, {}), some);
  EXPECT_TRUE(same_bits(limited(1 << 20, 512, {}).gram, collect(x, 512, kBoth).gram));
  EXPECT_EQ(limited(1 << 20, 512, {}).gram_tokens, x.size(0));
  StatsCollector weighted = collector(24, kBoth);
  weighted.observe(head, {}, weights.slice(0, 0, 2 * kChunk));
  EXPECT_LT(gram_error(limited(2 * kChunk, 300, weights).gram, weighted.finish().gram), 1e-6);
}

TEST(StatsCollector, SameBitsForEveryBatchSizeAndNumberOfThreads) {
  at::manual_seed(2);
  const at::Tensor x = awkward_tokens(2 * kChunk + 905, 96);
  const InputStats whole = collect(x, x.size(0));
  EXPECT_LT(gram_error(whole.gram, exact_gram(x)), kGramBound);
  for (const int64_t batch : {int64_t{7}, int64_t{1000}, kChunk - 1, kChunk, kChunk + 1, 2 * kChunk})
    expect_same_bits(collect(x, batch), whole);
  const int threads = at::get_num_threads();
  for (const int count : {1, 2}) {
    at::set_num_threads(count);
    expect_same_bits(collect(x, 1000), whole);
  }
  at::set_num_threads(threads);
}

/// The statistics of x, collected in two halves.
InputStats merged(const at::Tensor& x, int64_t cut, StatSet wanted = kEverything) {
  StatsCollector first = collector(x.size(1), wanted), second = collector(x.size(1), wanted);
  first.observe(x.slice(0, 0, cut));
  second.observe(x.slice(0, cut));
  first.merge(second);
  EXPECT_EQ(second.tokens(), x.size(0) - cut) << "the other collector was changed";
  return first.finish();
}

TEST(StatsCollector, HalvesThatEndWithAChunkMergeToTheSameBits) {
  at::manual_seed(3);
  const at::Tensor x = awkward_tokens(3 * kChunk + 100, 80);
  const InputStats two = collect(x.slice(0, 0, 2 * kChunk), 999);
  expect_same_bits(merged(x.slice(0, 0, 2 * kChunk), kChunk), two);
  const at::Tensor some = x.slice(0, 0, kChunk + 100);
  expect_same_bits(merged(some, kChunk), collect(some, 100));
  // More chunks on the right: sums are added in another order, in FP64.
  const InputStats whole = collect(x, 100), right = merged(x, kChunk);
  expect_same_exact_parts(right, whole);
  EXPECT_LT(gram_error(right.gram, whole.gram), 1e-7);
  EXPECT_LT(relative_error(right.mean_square.slice(0, 1), whole.mean_square.slice(0, 1)), 1.2e-7);
  EXPECT_LT((right.ema_min_max.high - whole.ema_min_max.high).abs().max().item<double>(), 1e-5);
}

TEST(StatsCollector, HalvesCutAnywhereMergeWithinRounding) {
  at::manual_seed(4);
  const at::Tensor x = awkward_tokens(kChunk + 500, 80);
  StatSet wanted = kEverything;
  wanted.ema_min_max = wanted.step_min_max = false;  // their steps are chunks, so where chunks end matters
  const InputStats whole = collect(x, 300, wanted);
  for (const int64_t cut : {int64_t{1}, int64_t{123}, kChunk + 3}) {
    const InputStats result = merged(x, cut, wanted);
    expect_same_exact_parts(result, whole);
    EXPECT_LT(gram_error(result.gram, exact_gram(x)), kGramBound);
    EXPECT_LT(relative_error(result.mean_abs.slice(0, 1), whole.mean_abs.slice(0, 1)), 1e-6);
    EXPECT_LT(relative_error(result.mean_square.slice(0, 1), whole.mean_square.slice(0, 1)), 2.4e-7);
  }
}

TEST(StatsCollector, MaskedTokensNeverCount) {
  at::manual_seed(5);
  at::Tensor x = awkward_tokens(2 * kChunk, 40);
  const at::Tensor mask = at::rand({2 * kChunk}) < 0.7;
  const at::Tensor counted = x.index({mask}).contiguous();
  x.masked_fill_(mask.logical_not().unsqueeze(1), NAN);  // padding may hold anything
  StatsCollector stats = collector(40);
  for (int64_t token = 0; token < x.size(0); token += 512)
    stats.observe(x.slice(0, token, token + 512).view({2, 256, 40}), mask.slice(0, token, token + 512));
  EXPECT_EQ(stats.tokens(), counted.size(0));
  expect_same_bits(stats.finish(), collect(counted, 4096));
}

TEST(StatsCollector, ObservationsWithoutATokenThatCountsAreFine) {
  StatsCollector stats = collector(4);
  stats.observe(at::full({3, 4}, NAN), at::zeros({3}, at::kBool));
  stats.observe(at::empty({0, 4}));
  EXPECT_THROW(stats.finish(), InternalError) << "no token counts";
  stats.observe(at::ones({2, 4}));
  EXPECT_EQ(stats.finish().tokens, 2);
}

TEST(StatsCollector, WeightsRepeatTokens) {
  at::manual_seed(6);
  const at::Tensor x = at::randn({600, 70}), times = at::randint(0, 4, {600}, at::kLong);
  StatSet wanted{.gram = true, .mean_abs = true, .mean_square = true};
  StatsCollector stats = collector(70, wanted);
  stats.observe(x.slice(0, 0, 250), {}, times.slice(0, 0, 250).to(at::kFloat));
  stats.observe(x.slice(0, 250), {}, times.slice(0, 250).to(at::kFloat));
  const InputStats weighted = stats.finish();
  EXPECT_EQ(weighted.tokens, 600);
  EXPECT_LT(gram_error(weighted.gram, exact_gram(at::repeat_interleave(x, times, 0))), kGramBound);
  EXPECT_LT(relative_error(weighted.mean_abs, x.abs().mean(0)), 1e-6) << "weights are the Gram matrix's";
  EXPECT_LT(relative_error(weighted.mean_square, at::repeat_interleave(x, times, 0).square().mean(0)), 1e-6);
}

TEST(StatsCollector, WeightedMeanSquaresAreTheGramDiagonal) {
  at::manual_seed(8);
  const at::Tensor x = at::randn({2 * kChunk + 100, 70}), weights = at::rand({x.size(0)}) + 0.01;
  constexpr StatSet kBoth{.gram = true, .mean_square = true};
  StatsCollector whole = collector(70, kBoth);
  whole.observe(x, {}, weights);
  const InputStats expected = whole.finish();
  EXPECT_LT(relative_error(expected.mean_square, expected.gram.diagonal()), 1e-6);
  StatsCollector first = collector(70, kBoth), second = collector(70, kBoth);
  first.observe(x.slice(0, 0, 2 * kChunk), {}, weights.slice(0, 0, 2 * kChunk));
  second.observe(x.slice(0, 2 * kChunk), {}, weights.slice(0, 2 * kChunk));
  first.merge(second);
  EXPECT_TRUE(at::equal(first.finish().mean_square, expected.mean_square));
}

/// Tokens as often as their weights say: what weighted matrices are compared with.
struct WeightedPair {
  at::Tensor x, reference, times, weights, repeated, repeated_reference;

  explicit WeightedPair(int64_t tokens)
      : x(at::randn({tokens, 70})),
        reference(x + at::randn({tokens, 70}) * 0.3),
        times(at::randint(0, 4, {tokens}, at::kLong)),
        weights(times.to(at::kFloat)),
        repeated(at::repeat_interleave(x, times, 0)),
        repeated_reference(at::repeat_interleave(reference, times, 0)) {}

  void observe(StatsCollector& stats, int64_t begin, int64_t end) const {
    stats.observe_pair(x.slice(0, begin, end), reference.slice(0, begin, end), {},
                       weights.slice(0, begin, end));
  }
  at::Tensor exact_cross_gram() const {
    return repeated_reference.to(at::kDouble).t().mm(repeated.to(at::kDouble)) /
           static_cast<double>(repeated.size(0));
  }
};

TEST(StatsCollector, WeightsAndTheCrossGramMerge) {
  at::manual_seed(9);
  constexpr StatSet kPair{.gram = true, .cross_gram = true};
  const WeightedPair pair(2 * kChunk + 100);
  StatsCollector whole = collector(70, kPair);
  pair.observe(whole, 0, pair.x.size(0));
  const InputStats expected = whole.finish();
  EXPECT_LT(gram_error(expected.gram, exact_gram(pair.repeated)), kGramBound);
  EXPECT_LT((expected.cross_gram - pair.exact_cross_gram()).abs().max().item<double>(), 1e-5);
  for (const int64_t cut : {kChunk, 2 * kChunk, kChunk - 77}) {
    StatsCollector first = collector(70, kPair), second = collector(70, kPair);
    pair.observe(first, 0, cut);
    pair.observe(second, cut, pair.x.size(0));
    first.merge(second);
    const InputStats merged = first.finish();
    EXPECT_LT(gram_error(merged.gram, expected.gram), cut % kChunk == 0 ? 1e-7 : 1e-6) << cut;
    EXPECT_LT((merged.cross_gram - expected.cross_gram).abs().max().item<double>(), 2e-6) << cut;
    if (cut == 2 * kChunk) expect_same_bits(merged, expected);
  }
}

TEST(StatsCollector, AWeightThatIsNotOneIsRefused) {
  for (const float bad : {-1.0f, -1e-30f, NAN, INFINITY}) {
    at::Tensor weights = at::ones({5});
    weights[3] = bad;
    StatsCollector stats = collector(4, {.gram = true});
    EXPECT_THROW(stats.observe(at::ones({5, 4}), {}, weights), InternalError) << bad;
    StatsCollector masked = collector(4, {.gram = true});
    at::Tensor mask = at::ones({5}, at::kBool);
    mask[3] = false;
    masked.observe(at::ones({5, 4}), mask, weights);
    EXPECT_TRUE(at::allclose(masked.finish().gram, at::ones({4, 4})))
        << "a masked token's weight is anything";
  }
}

TEST(Gram, HalvesAreWeightedInFP32) {
  at::manual_seed(10);
  for (const at::ScalarType type : {at::kHalf, at::kBFloat16}) {
    const at::Tensor x = at::randn({400, 40}).to(type), weights = at::rand({400}) + 0.1;
    GramCollector gram(40, c10::kCPU);
    gram.observe(x, weights);
    const at::Tensor wide = x.to(at::kDouble);
    const at::Tensor exact = wide.t().mm(wide * weights.to(at::kDouble).unsqueeze(1));
    EXPECT_LT(gram_error(gram.finish(1), exact), kGramBound) << c10::toString(type);
  }
}

TEST(StatsCollector, CrossGramIsReferenceTimesInput) {
  at::manual_seed(7);
  for (const int64_t width : {5, 600}) {
    const at::Tensor reference = at::randn({kChunk + 300, width});
    const at::Tensor x = reference + at::randn({kChunk + 300, width}) * 0.3;
    constexpr StatSet kPair{.gram = true, .cross_gram = true};
    StatsCollector stats = collector(width, kPair), other = collector(width, kPair);
    for (int64_t token = 0; token < x.size(0); token += 500)
      stats.observe_pair(x.slice(0, token, token + 500), reference.slice(0, token, token + 500));
    const InputStats result = stats.finish();
    const at::Tensor exact =
        reference.to(at::kDouble).t().mm(x.to(at::kDouble)) / static_cast<double>(x.size(0));
    EXPECT_LT((result.cross_gram - exact).abs().max().item<double>(), 1e-5);
    other.observe_pair(x, reference);
    expect_same_bits(other.finish(), result);
  }
}

TEST(StatsCollector, TheReferenceStreamIsCheckedToo) {
  StatsCollector stats = collector(8, {.gram = true, .cross_gram = true});
  at::Tensor reference = at::randn({kChunk, 8});
  reference[30][2] = INFINITY;
  try {
    stats.observe_pair(at::randn({kChunk, 8}), reference);
    FAIL() << "took an infinite reference";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("reference activation of token 30, channel 2 is inf"));
  }
}

TEST(StatsCollector, CollectsOnlyWhatWasAskedFor) {
  for (const auto member : kAllStats) {
    StatSet wanted;
    wanted.*member = true;
    StatsCollector stats = collector(8, wanted);
    stats.observe_pair(at::ones({2, 8}), at::ones({2, 8}));
    EXPECT_EQ(stats.finish().held(), wanted);
  }
  StatsCollector gram = collector(8, {.gram = true}), mean = collector(8, {.mean_abs = true});
  EXPECT_THROW(gram.merge(mean), InternalError);
}

TEST(StatsCollector, NamesPlaceTokenAndChannelOfANanOrInfinity) {
  for (const StatSet wanted : {kBoth, StatSet{.gram = true}, kEverything, StatSet{}}) {
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
      StatsCollector stats = collector(700, wanted);
      stats.observe(at::randn({10, 700}));
      at::Tensor x = at::randn({2, 3, 700});
      x[1][2][600] = bad;
      stats.observe(x);
      try {
        stats.finish();
        FAIL() << "took " << bad;
      } catch (const UserError& error) {
        EXPECT_THAT(error.what(), testing::HasSubstr("model.layers.3, input attention_in"));
        EXPECT_THAT(error.what(),
                    testing::HasSubstr(std::isnan(bad) ? "token 15, channel 600 is NaN"
                                                       : fmt::format("token 15, channel 600 is {}", bad)));
      }
    }
  }
}

TEST(StatsCollector, NamesTheSampleOfABadTokenBehindMaskedOnes) {
  StatsCollector stats({.gram = true}, 4, c10::kCPU, "model.layers.0, input mlp_in", [](int64_t token) {
    return fmt::format("sample {}, token {}", token / 100, token % 100);
  });
  at::Tensor mask = at::zeros({100}, at::kBool);
  mask.slice(0, 0, 60).fill_(true);
  for (int sample = 0; sample < 30; ++sample) stats.observe(at::randn({100, 4}), mask);
  at::Tensor x = at::randn({100, 4});
  x[59][3] = NAN;
  stats.observe(x, mask);
  try {
    for (int sample = 31; sample < 60; ++sample) stats.observe(at::randn({100, 4}), mask);
    FAIL() << "the chunk that holds the NaN is complete";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("sample 30, token 59, channel 3 is NaN"));
  }
}

TEST(StatsCollector, RefusesValuesWhoseSquaresOverflow) {
  StatsCollector stats = collector(4);
  stats.observe(at::full({2, 4}, 1e25f));
  try {
    stats.finish();
    FAIL() << "took values whose squares overflow";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("overflows FP32"));
  }
  StatsCollector largest = collector(4);
  largest.observe(at::full({kChunk, 4}, 288230376151711744.0f));
  EXPECT_TRUE(at::isfinite(largest.finish().gram).all().item<bool>());
}

TEST(StatsCollector, BrokenPromisesAreInternalErrors) {
  StatsCollector stats = collector(4);
  EXPECT_THROW(stats.finish(), InternalError);
  EXPECT_THROW(stats.observe(at::ones({2, 5})), InternalError);
  EXPECT_THROW(stats.observe(at::ones({2, 4}, at::kDouble)), InternalError);
  EXPECT_THROW(stats.observe(at::ones({2, 4}), at::ones({3}, at::kBool)), InternalError);
  EXPECT_THROW(stats.observe(at::ones({2, 4}), {}, at::ones({2}, at::kDouble)), InternalError);
  StatsCollector pair = collector(4, {.cross_gram = true});
  EXPECT_THROW(pair.observe(at::ones({2, 4})), InternalError);
}

TEST(StatsCollector, HalfPrecisionInputsCountAsTheirValues) {
  at::manual_seed(8);
  const at::Tensor x = at::randn({300, 33});
  for (const at::ScalarType type : {at::kHalf, at::kBFloat16})
    expect_same_bits(collect(x.to(type), 50), collect(x.to(type).to(at::kFloat), 300));
}

}  // namespace
}  // namespace lathe
