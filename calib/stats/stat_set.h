// Which statistics of a linear's input an algorithm wants.
#pragma once

#include <array>

namespace lathe {

/// A set of statistics, as algorithms declare their needs; `|` unites. InputStats says what each holds.
struct StatSet {
  bool gram = false;                  // H = X^T X
  bool mean_abs = false;              // E|x| per channel
  bool mean_square = false;           // E[x^2] per channel, llama.cpp's imatrix
  bool min_max = false;               // per channel; groups and the tensor follow from it
  bool ema_min_max = false;           // exponential average over chunks, per channel
  bool step_min_max = false;          // of each chunk: averages of groups and of the tensor follow from it
  bool token_min_max = false;         // per token
  bool outliers = false;              // count of |x| >= 6 per channel
  bool kurtosis = false;              // per channel and of the tensor
  bool distribution = false;          // percentiles and histograms of the tensor
  bool channel_distribution = false;  // percentiles of |x| per channel
  bool cross_gram = false;            // X_ref^T X; needs both streams (StatsCollector::observe_pair)
  bool sample = false;                // some tokens' values, evenly spread

  bool operator==(const StatSet&) const = default;
};

/// Every statistic, for what is said of all of them.
inline constexpr std::array kAllStats = {
    &StatSet::gram,        &StatSet::mean_abs,     &StatSet::mean_square,          &StatSet::min_max,
    &StatSet::ema_min_max, &StatSet::step_min_max, &StatSet::token_min_max,        &StatSet::outliers,
    &StatSet::kurtosis,    &StatSet::distribution, &StatSet::channel_distribution, &StatSet::cross_gram,
    &StatSet::sample};
static_assert(sizeof(StatSet) == kAllStats.size() * sizeof(bool), "a statistic is missing in kAllStats");

inline StatSet operator|(StatSet a, StatSet b) {
  for (const auto member : kAllStats) a.*member = a.*member || b.*member;
  return a;
}
inline StatSet operator&(StatSet a, StatSet b) {
  for (const auto member : kAllStats) a.*member = a.*member && b.*member;
  return a;
}

/// a without b.
inline StatSet operator-(StatSet a, StatSet b) {
  for (const auto member : kAllStats) a.*member = a.*member && !(b.*member);
  return a;
}

/// Statistics that dividing the input's channels by scales leaves unknown: they look at several channels at
/// once, or compare with a fixed magnitude (InputStats::with_inputs_divided).
inline constexpr StatSet kLostByDivision{.step_min_max = true,
                                         .token_min_max = true,
                                         .outliers = true,
                                         .distribution = true,
                                         .channel_distribution = true};

}  // namespace lathe
