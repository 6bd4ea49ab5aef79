// The statistics that are measured: one row for each member of StatSet.
#pragma once

#include <array>
#include <optional>
#include <string_view>
#include <vector>

#include "calib/stats/stats_collector.h"

namespace lathe::bench {

/// goal: the most that collecting it may cost, as a part of the forward pass, over `share`: the part that its
/// own multiplications make of the forward's.
struct StatRow {
  std::string_view name;
  bool StatSet::*member;
  std::optional<double> goal;
  bool products = false;  // X^T X: has a share
  bool pairs = false;     // needs the reference stream, too
};

inline constexpr std::array kStatRows = {
    StatRow{"gram", &StatSet::gram, 0.10, true},
    StatRow{"mean_abs", &StatSet::mean_abs, std::nullopt},
    StatRow{"mean_square", &StatSet::mean_square, 0.05},  // the imatrix
    StatRow{"min_max", &StatSet::min_max, 0.05},
    StatRow{"ema_min_max", &StatSet::ema_min_max, 0.05},
    StatRow{"step_min_max", &StatSet::step_min_max, 0.05},
    StatRow{"token_min_max", &StatSet::token_min_max, 0.05},
    StatRow{"outliers", &StatSet::outliers, std::nullopt},
    StatRow{"kurtosis", &StatSet::kurtosis, std::nullopt},
    StatRow{"distribution", &StatSet::distribution, 0.15},  // histograms and percentiles
    StatRow{"channel_distribution", &StatSet::channel_distribution, std::nullopt},
    StatRow{"cross_gram", &StatSet::cross_gram, std::nullopt, false, true},
    StatRow{"sample", &StatSet::sample, 0.05},
};
static_assert(kStatRows.size() == kAllStats.size(), "a statistic has no row");

inline StatSet set_of(const StatRow& row) {
  StatSet set;
  set.*row.member = true;
  return set;
}

/// Every tensor that is held, by name; how far the CPU's and a GPU's may differ: |a - b| over max |a|. Sums
/// of products and of values round differently in another order; extrema and counts are exact.
struct StatTensor {
  std::string_view name;
  at::Tensor values;
  double bound = 0;
};
std::vector<StatTensor> tensors_of(const InputStats& stats);

/// Shows the collector x, and where the set has a statistic of pairs, the reference, too.
void observe(StatsCollector& collector, StatSet set, const at::Tensor& x, const at::Tensor& reference);

}  // namespace lathe::bench
