// Counting values on the CPU. Bin numbers of a short run of values are computed in vectors, then counted one
// by one: the increments are what it costs. Threads count whole values into tables of their own, or own
// channels; sums of integers have no order.
#include <ATen/Parallel.h>

#include <algorithm>
#include <mutex>
#include <vector>

#include "lib/kernels/target_clones.h"
#include "lib/kernels/value_counts_rows.h"

namespace lathe::kernels::cpu {
namespace {

constexpr int64_t kRun = 256;
constexpr int64_t kGrainElements = 1 << 16;
constexpr int32_t kBins = device::bin_count(device::kValueBins);
constexpr int32_t kPerChannel = device::bin_count(device::kChannelBins);

/// Index into [2, kBins].
LATHE_CLONES void signed_bins(const float* __restrict x, int64_t count, int32_t* __restrict bins) {
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = device::float_bits(x[i]);
    const int32_t bin = device::bin_of(bits & 0x7fffffffu, device::kValueBins);
    bins[i] = bin + static_cast<int32_t>(bits >> 31) * kBins;
  }
}

/// Index into [count, kPerChannel].
LATHE_CLONES void channel_bins(const float* __restrict x, int64_t count, int32_t* __restrict bins) {
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = device::float_bits(x[i]) & 0x7fffffffu;
    bins[i] = device::bin_of(bits, device::kChannelBins) + static_cast<int32_t>(i) * kPerChannel;
  }
}

constexpr int kLanes = 16;

LATHE_CLONES void extent_of_row(const float* x, int64_t width, float* low_out, float* high_out) {
  float low[kLanes], high[kLanes];
  std::fill_n(low, kLanes, x[0]);
  std::fill_n(high, kLanes, x[0]);
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      low[lane] = x[i + lane] < low[lane] ? x[i + lane] : low[lane];
      high[lane] = x[i + lane] > high[lane] ? x[i + lane] : high[lane];
    }
  }
  for (; i < width; ++i) {
    low[0] = x[i] < low[0] ? x[i] : low[0];
    high[0] = x[i] > high[0] ? x[i] : high[0];
  }
  *low_out = *std::min_element(low, low + kLanes) + 0.0f;  // one zero, whichever sign came first
  *high_out = *std::max_element(high, high + kLanes) + 0.0f;
}

/// The bins that hold anything of one thread's table, moved to the common one; leaves the table empty.
void hand_over(std::vector<uint32_t>& mine, int64_t* counts) {
  for (size_t i = 0; i < mine.size(); ++i) counts[i] += mine[i];
  std::fill(mine.begin(), mine.end(), 0);
}

}  // namespace

void value_counts(MatrixLayout layout, const float* x, int64_t* counts) {
  std::mutex handing_over;
  at::parallel_for(0, layout.rows * layout.width, kGrainElements, [&](int64_t begin, int64_t end) {
    thread_local std::vector<uint32_t> mine(2 * kBins, 0);  // empty between calls
    int32_t bins[kRun];
    for (int64_t i = begin; i < end; i += kRun) {
      const int64_t run = std::min(kRun, end - i);
      signed_bins(x + i, run, bins);
      for (int64_t k = 0; k < run; ++k) ++mine[static_cast<size_t>(bins[k])];
    }
    const std::lock_guard lock(handing_over);
    hand_over(mine, counts);
  });
}

void channel_value_counts(MatrixLayout layout, const float* x, int32_t* counts) {
  constexpr int64_t kTile = 64;  // channels: the tables of a tile stay in the second-level cache
  const int64_t tiles = (layout.width + kTile - 1) / kTile;
  at::parallel_for(0, tiles, 1, [&](int64_t first, int64_t last) {
    int32_t bins[kTile];
    for (int64_t tile = first; tile < last; ++tile) {
      const int64_t begin = tile * kTile, channels = std::min(kTile, layout.width - begin);
      int32_t* const table = counts + begin * kPerChannel;
      for (int64_t row = 0; row < layout.rows; ++row) {
        channel_bins(x + row * layout.width + begin, channels, bins);
        for (int64_t c = 0; c < channels; ++c) ++table[bins[c]];
      }
    }
  });
}

void row_extent(MatrixLayout layout, const float* x, float* low, float* high) {
  const int64_t grain = std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, layout.width));
  at::parallel_for(0, layout.rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      extent_of_row(x + row * layout.width, layout.width, low + row, high + row);
  });
}

}  // namespace lathe::kernels::cpu
