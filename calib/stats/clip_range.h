// Where to clip at both ends: the range that an asymmetric integer grid should span, chosen from a histogram
// of x itself. What clip.h does for magnitudes, for inputs whose two sides differ (behind a GELU or SiLU, or
// with an offset).
#pragma once

#include <cstdint>

#include "calib/stats/histogram.h"

namespace lathe {

struct ClipRange {
  double low = 0,
         high = 0;   // multiples of the bins' width, low <= 0 <= high: a grid holds 0. Both 0: all values are
  double score = 0;  // what was minimised: mean squared error, or divergence in nats
};

/// Both look at the ranges that the used bins shrink to in proportion, then move one end after the other, on
/// a raster of 8 bins and within it by single ones, until neither end gets better. (All pairs of ends would
/// be a million.) At least 128 bins, 256 for the divergence, or all that hold anything. Ties go to the wider
/// range.
///
/// `signed_histogram`: histogram.h's, of values that are not none. levels: 2^bits.

/// Minimises the mean of (x - Q(x))^2 for `levels` values from low to high, rounding and clipping included,
/// the values of a bin spread evenly over it. (A consumer's zero point is an integer, so that its grid lies
/// up to half a step beside this one.)
ClipRange mse_clip_range(const Histogram& signed_histogram, int64_t levels);

/// Minimises KL(P || Q) as entropy_clip() does: what lies beyond an end is added to P's bin there, Q holds
/// the bins within merged to `levels`, and the bins beside zero count as much as the ones next to them.
ClipRange entropy_clip_range(const Histogram& signed_histogram, int64_t levels);

}  // namespace lathe
