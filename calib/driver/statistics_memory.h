// What the statistics of one linear's input take.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>

#include "calib/stats/stat_set.h"

namespace lathe {

/// Bytes at most that a collector holds while an input [tokens, width] is observed: sums, and the rows that
/// wait for their chunk or product.
uint64_t collector_bytes(const StatSet& wanted, int64_t width, int64_t tokens, c10::Device device);

/// What it takes beside, for a moment: one product, or the finished matrix, which takes the place of the sums
/// piece by piece (calib/stats/gram.cc); steps of a range that are taken together (calib/stats/min_max.cc).
uint64_t collector_scratch_bytes(const StatSet& wanted, int64_t width, c10::Device device);

/// Bytes of the finished statistics, never more than collector_bytes().
uint64_t statistics_bytes(const StatSet& held, int64_t width, int64_t tokens);

}  // namespace lathe
