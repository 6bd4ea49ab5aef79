// What a person is told of a linear's input: how large its values are, and where the large ones stand, which
// decides between grids for activations (`report: {activations: true}`).
#pragma once

#include <cstdint>

#include "calib/stats/input_stats.h"

namespace lathe {

/// Of X[tokens, width], all tokens that count. Ratios are 0 where what they are relative to is 0.
struct InputDescription {
  int64_t tokens = 0, width = 0;
  double abs_max = 0;  // of all values
  double abs_max_mean =
      0;                 // the same of 2,048 tokens, averaged (min_max.h): far below abs_max where it is rare
  double abs_p9999 = 0;  // the 99.99th percentile of |x|: what a percentile observer clips to
  double mean_abs = 0;   // E|x|
  double kurtosis = 0;   // of all values: 3 for a normal distribution, hundreds where channels stand out
  /// Channels in which at least 6 % of the tokens have |x| >= 6 (the outlier features of LLM.int8(), arXiv
  /// 2208.07339, section 4), and the share of such values in the whole.
  int64_t outlier_channels = 0;
  double outlier_share = 0;
  double channel_kurtosis = 0;  // the median of the channels': large where single tokens stand out
  /// The largest channel's 99.9th percentile of |x| over the median channel's: what SmoothQuant and AWQ even
  /// out, and a scale for each token can't follow.
  double channel_spread = 0;
  /// The largest |x| of a token: the median of all tokens, and the largest over it. Near 1: a static range is
  /// as good as a dynamic one; a static grid of 8 bits loses log2 of it bits of the median token.
  double token_abs_max = 0;
  double token_spread = 0;
};

/// The statistics that describe_input() reads.
inline constexpr StatSet kDescription{.mean_abs = true,
                                      .min_max = true,
                                      .ema_min_max = true,
                                      .token_min_max = true,
                                      .outliers = true,
                                      .kurtosis = true,
                                      .distribution = true,
                                      .channel_distribution = true};

/// `stats` hold kDescription, of at least one token. On a GPU it waits for them.
InputDescription describe_input(const InputStats& stats);

}  // namespace lathe
