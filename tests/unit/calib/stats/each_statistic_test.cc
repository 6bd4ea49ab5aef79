// What every statistic promises, held against each of them by itself, on a CPU and, where there is one, on a
// GPU, whose collectors go another way: a new one in StatSet is in these tests.
#include <gmock/gmock.h>

#include <array>
#include <cmath>
#include <string_view>

#include "lib/base/error.h"
#include "lib/tensor/device.h"
#include "tests/unit/calib/stats/collect.h"

namespace lathe {
namespace {

constexpr int64_t kChunk = StatsCollector::kChunkTokens;
constexpr int64_t kWidth = 48;

struct Statistic {
  std::string_view name;
  bool StatSet::*member;
  /// Of the largest value, by which halves that are cut anywhere may differ from the whole: 0 where nothing
  /// rounds, and that of FP32 sums of a chunk's products or values (their headers) where something does.
  /// Negative: steps are chunks, so that halves are only those of the whole where the first ends with one.
  double cut_anywhere = 0;
};
const double kSums = std::sqrt(static_cast<double>(kChunk)) * std::ldexp(1, -24);
/// A GPU adds up to 16,384 tokens' products in FP32 before they go to FP64 (gram.cc): sqrt(8) times as many
/// roundings.
constexpr double kGpuSums = 3;
const std::array kStatistics = {Statistic{"gram", &StatSet::gram, kSums},
                                Statistic{"mean_abs", &StatSet::mean_abs, kSums},
                                Statistic{"mean_square", &StatSet::mean_square, kSums},
                                Statistic{"min_max", &StatSet::min_max},
                                Statistic{"ema_min_max", &StatSet::ema_min_max, -1},
                                Statistic{"step_min_max", &StatSet::step_min_max, -1},
                                Statistic{"token_min_max", &StatSet::token_min_max},
                                Statistic{"outliers", &StatSet::outliers},
                                Statistic{"kurtosis", &StatSet::kurtosis, 1e-6},
                                Statistic{"distribution", &StatSet::distribution},
                                Statistic{"channel_distribution", &StatSet::channel_distribution},
                                Statistic{"cross_gram", &StatSet::cross_gram, kSums},
                                Statistic{"sample", &StatSet::sample, -1}};
static_assert(kStatistics.size() == kAllStats.size(), "a statistic is not tested");

/// All that is held, as numbers.
std::vector<at::Tensor> numbers_of(const InputStats& stats) {
  std::vector<at::Tensor> all = {stats.gram,     stats.cross_gram, stats.mean_abs,     stats.mean_square,
                                 stats.outliers, stats.kurtosis,   stats.kurtosis_all, stats.sample};
  for (const auto range : {&InputStats::min_max, &InputStats::ema_min_max, &InputStats::step_min_max,
                           &InputStats::token_min_max}) {
    all.push_back((stats.*range).low);
    all.push_back((stats.*range).high);
  }
  all.push_back(stats.channel_distribution.counts);
  all.push_back(stats.channel_distribution.largest);
  if (stats.distribution) {
    all.push_back(stats.distribution->counts);
    all.push_back(stats.distribution->values);
    all.push_back(at::tensor({stats.distribution->low, stats.distribution->high}, at::kDouble));
  }
  std::erase_if(all, [](const at::Tensor& values) { return !values.defined(); });
  return all;
}

class EachStatistic : public ::testing::TestWithParam<Statistic> {
 protected:
  void SetUp() override { prepare(c10::kCPU, 3 * kChunk + 700); }
  void prepare(c10::Device device, int64_t tokens) {
    device_ = device;
    at::manual_seed(1);
    at::Tensor x = at::randn({tokens, kWidth}) + 0.5;
    x.select(1, kWidth / 2).mul_(40);
    reference_ = (x + at::randn_like(x) * 0.1).to(device);
    x_ = x.to(device);
    wanted_.*GetParam().member = true;
  }
  StatsCollector collector() const {
    return StatsCollector(
        wanted_, kWidth, device_, "model.layers.3, input mlp_in (gate_proj, up_proj)",
        [](int64_t token) { return fmt::format("sample {}, token {}", token / 100, token % 100); });
  }
  void observe(StatsCollector& stats, int64_t begin, int64_t end, const at::Tensor& mask = {}) const {
    stats.observe_pair(x_.slice(0, begin, end), reference_.slice(0, begin, end), mask);
  }
  InputStats collect(int64_t begin, int64_t end, int64_t batch) const {
    StatsCollector stats = collector();
    for (int64_t token = begin; token < end; token += batch)
      observe(stats, token, std::min(token + batch, end));
    return stats.finish();
  }
  InputStats merged(int64_t cut, int64_t end) const {
    StatsCollector first = collector(), second = collector();
    observe(first, 0, cut);
    observe(second, cut, end);
    first.merge(second);
    return first.finish();
  }

  void is_the_same_for_every_batch_size(const std::vector<int64_t>& batches) const;
  void of_halves_is_that_of_the_whole(const std::vector<int64_t>& cuts) const;
  void leaves_masked_tokens_out();
  void stops_at_a_value_that_is_not_finite_and_names_it();

  c10::Device device_ = c10::kCPU;
  at::Tensor x_, reference_;
  StatSet wanted_;
};

/// The same with more tokens than are multiplied at once there.
class EachStatisticGpu : public EachStatistic {
 protected:
  void SetUp() override {
    const c10::Device device = resolve_device("auto");
    if (!device.is_cuda()) GTEST_SKIP() << "no CUDA device on this machine";
    prepare(device, 2 * StatsCollector::kProductTokens + kChunk + 700);
  }
};

void EachStatistic::is_the_same_for_every_batch_size(const std::vector<int64_t>& batches) const {
  const InputStats whole = collect(0, x_.size(0), x_.size(0));
  ASSERT_FALSE(numbers_of(whole).empty());
  for (const int64_t batch : batches) expect_same_bits(collect(0, x_.size(0), batch), whole);
}

void EachStatistic::of_halves_is_that_of_the_whole(const std::vector<int64_t>& cuts) const {
  const std::vector<at::Tensor> whole = numbers_of(collect(0, x_.size(0), 1000));
  const double bound = GetParam().cut_anywhere * (device_.is_cpu() ? 1 : kGpuSums);
  for (const int64_t cut : cuts) {
    if (bound < 0 && cut % kChunk != 0) continue;
    const std::vector<at::Tensor> halves = numbers_of(merged(cut, x_.size(0)));
    ASSERT_EQ(halves.size(), whole.size());
    for (size_t i = 0; i < whole.size(); ++i) {
      ASSERT_EQ(halves[i].sizes(), whole[i].sizes()) << cut;
      const at::Tensor expected = whole[i].to(at::kDouble), found = halves[i].to(at::kDouble);
      if (bound == 0) {
        EXPECT_TRUE(at::equal(found, expected)) << cut;
      } else {
        const double largest = expected.abs().max().item<double>();
        EXPECT_LE((found - expected).abs().max().item<double>(), std::max(bound, 1.2e-7) * largest) << cut;
      }
    }
  }
}

void EachStatistic::leaves_masked_tokens_out() {
  const int64_t tokens = 2 * kChunk + 400;
  const at::Tensor mask = at::rand({tokens}) < 0.6, kept = mask.nonzero().view(-1);
  const at::Tensor rows = kept.to(device_);
  const at::Tensor x = x_.index_select(0, rows), reference = reference_.index_select(0, rows);
  for (at::Tensor* values : {&x_, &reference_})  // padding may hold anything
    values->slice(0, 0, tokens).masked_fill_(mask.to(device_).logical_not().unsqueeze(1), NAN);
  StatsCollector masked = collector(), alone = collector();
  for (int64_t token = 0; token < tokens; token += 400) {
    const int64_t end = std::min(token + 400, tokens);
    observe(masked, token, end, mask.slice(0, token, end));
  }
  alone.observe_pair(x, reference);
  EXPECT_EQ(masked.tokens(), kept.size(0));
  expect_same_bits(masked.finish(), alone.finish());
}

void EachStatistic::stops_at_a_value_that_is_not_finite_and_names_it() {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    for (const bool of_reference : {false, true}) {
      if (of_reference && !wanted_.cross_gram) continue;  // nothing else looks at it
      const at::Tensor values = of_reference ? reference_ : x_;
      const at::Tensor good = values[2150].clone();
      values[2150][7] = bad;
      try {
        collect(0, x_.size(0), 512);
        ADD_FAILURE() << "took " << bad;
      } catch (const UserError& error) {
        // A GPU is not asked for the value itself.
        const std::string found = !device_.is_cpu() ? "NaN, infinite or beyond 2^58 in magnitude"
                                  : std::isnan(bad) ? "NaN"
                                                    : fmt::format("{}", bad);
        EXPECT_THAT(
            error.what(),
            testing::StartsWith(fmt::format(
                "model.layers.3, input mlp_in (gate_proj, up_proj): the {}activation of sample 21, token 50, "
                "channel 7 is {};",
                of_reference ? "reference " : "", found)));
      }
      values[2150].copy_(good);
    }
  }
}

TEST_P(EachStatistic, IsTheSameForEveryBatchSize) {
  is_the_same_for_every_batch_size({61, kChunk - 1, kChunk, 2 * kChunk + 5});
}
TEST_P(EachStatistic, OfHalvesIsThatOfTheWhole) {
  // The second half is one chunk, or a part of one: not even the order of sums differs.
  for (const int64_t end : {2 * kChunk, 2 * kChunk - 300})
    expect_same_bits(merged(kChunk, end), collect(0, end, 1000));
  of_halves_is_that_of_the_whole({1, 777, kChunk, kChunk + 3, 3 * kChunk + 699});
}
TEST_P(EachStatistic, LeavesMaskedTokensOut) { leaves_masked_tokens_out(); }
TEST_P(EachStatistic, StopsAtAValueThatIsNotFiniteAndNamesIt) {
  stops_at_a_value_that_is_not_finite_and_names_it();
}

TEST_P(EachStatisticGpu, IsTheSameForEveryBatchSize) {
  is_the_same_for_every_batch_size({61, kChunk, 2 * kChunk + 5, StatsCollector::kProductTokens + 1});
}
TEST_P(EachStatisticGpu, OfHalvesIsThatOfTheWhole) {
  of_halves_is_that_of_the_whole({1, kChunk, kChunk + 3, StatsCollector::kProductTokens + 777});
}
TEST_P(EachStatisticGpu, LeavesMaskedTokensOut) { leaves_masked_tokens_out(); }
TEST_P(EachStatisticGpu, StopsAtAValueThatIsNotFiniteAndNamesIt) {
  stops_at_a_value_that_is_not_finite_and_names_it();
}

const auto kName = [](const auto& test) { return std::string(test.param.name); };
INSTANTIATE_TEST_SUITE_P(All, EachStatistic, ::testing::ValuesIn(kStatistics), kName);
INSTANTIATE_TEST_SUITE_P(All, EachStatisticGpu, ::testing::ValuesIn(kStatistics), kName);

}  // namespace
}  // namespace lathe
