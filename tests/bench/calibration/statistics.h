// The statistics that are measured: one row for each member of StatSet.
#pragma once

#include <array>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "calib/stats/input_stats.h"

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
    StatRow{"mean_abs", &StatSet::mean_abs, 0.05},
};
static_assert(kStatRows.size() * sizeof(bool) == sizeof(StatSet), "a statistic has no row");

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
inline std::vector<StatTensor> tensors_of(const InputStats& stats) {
  std::vector<StatTensor> all = {{"gram", stats.gram, 1e-5}, {"mean_abs", stats.mean_abs, 1e-6}};
  std::erase_if(all, [](const StatTensor& tensor) { return !tensor.values.defined(); });
  return all;
}

}  // namespace lathe::bench
