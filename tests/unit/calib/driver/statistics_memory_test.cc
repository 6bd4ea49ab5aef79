// What statistics are said to take is at least what they hold.
#include "calib/driver/statistics_memory.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "calib/stats/stats_collector.h"

namespace lathe {
namespace {

uint64_t bytes_of(const InputStats& stats) {
  uint64_t bytes = 0;
  const auto add = [&](const at::Tensor& values) { bytes += values.defined() ? values.nbytes() : 0; };
  for (const auto member :
       {&InputStats::gram, &InputStats::cross_gram, &InputStats::mean_abs, &InputStats::mean_square,
        &InputStats::outliers, &InputStats::kurtosis, &InputStats::kurtosis_all, &InputStats::sample})
    add(stats.*member);
  for (const auto range : {&InputStats::min_max, &InputStats::ema_min_max, &InputStats::step_min_max,
                           &InputStats::token_min_max}) {
    add((stats.*range).low);
    add((stats.*range).high);
  }
  add(stats.channel_distribution.counts);
  add(stats.channel_distribution.largest);
  if (stats.distribution) {
    add(stats.distribution->counts);
    add(stats.distribution->values);
  }
  return bytes;
}

/// Many steps of few channels, in groups of one: what grows with the tokens is the most of what there is.
TEST(StatisticsMemory, IsWhatEachStatisticHoldsAtMost) {
  at::manual_seed(1);
  const int64_t width = 17, tokens = 20 * StatsCollector::kChunkTokens + 1;
  const at::Tensor x = at::randn({tokens, width});
  for (bool StatSet::*const member : kAllStats) {
    StatSet wanted;
    wanted.*member = true;
    StatsCollector collector(wanted, width, c10::kCPU, "model.layers.3, input mlp_in");
    collector.observe_pair(x, x);
    const uint64_t said = statistics_bytes(wanted, width, tokens);
    EXPECT_LE(bytes_of(collector.finish()), said);
    EXPECT_LE(said, collector_bytes(wanted, width, tokens, c10::kCPU));
  }
}

}  // namespace
}  // namespace lathe
