// Which of n ascending values a quantile is.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "lib/base/error.h"

namespace lathe {

/// ceil(q * total), 1-based, at least 1: the smallest value that q * total values don't exceed (numpy's
/// "inverted_cdf"). A product that is an integer but for the rounding of q and of itself is that integer:
/// 99.9 / 100 of 1000 values is the 999th, not the largest.
inline int64_t rank_of(double q, int64_t total) {
  LATHE_ASSERT(q >= 0 && q <= 1 && total > 0, "quantile {} of {} values", q, total);
  const double exact = q * static_cast<double>(total) * (1 - 0x1p-50);
  return std::clamp<int64_t>(static_cast<int64_t>(std::ceil(exact)), 1, total);
}

}  // namespace lathe
