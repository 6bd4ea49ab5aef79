// Channel moments on the CPU. A thread owns a tile of channels and goes through the rows in runs that stay in
// the first-level cache, so that several simple vector loops over a run cost one trip to memory. Every
// channel's sum has one order, whatever the number of threads or the tile.
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "lib/kernels/channel_moments.h"
#include "lib/kernels/channel_moments_rows.h"
#include "lib/kernels/target_clones.h"

namespace lathe::kernels::cpu {
namespace {

using device::kMomentRun;

constexpr int64_t kTile = 128;  // channels; 64 rows of them are 32 KiB

/// Some rows of a tile of channels.
struct Run {
  const float* x;
  int64_t rows, stride, channels;
};

LATHE_CLONES void extend(Run run, float* __restrict low, float* __restrict high, uint32_t* __restrict bits) {
  for (int64_t row = 0; row < run.rows; ++row) {
    const float* x = run.x + row * run.stride;
    for (int64_t c = 0; c < run.channels; ++c) {
      low[c] = x[c] < low[c] ? x[c] : low[c];
      high[c] = x[c] > high[c] ? x[c] : high[c];
      const uint32_t magnitude = device::magnitude_bits(x[c]);
      bits[c] = magnitude > bits[c] ? magnitude : bits[c];
    }
  }
}

LATHE_CLONES void add_magnitudes(Run run, double* __restrict total) {
  float sum[kTile] = {};
  for (int64_t row = 0; row < run.rows; ++row) {
    const float* x = run.x + row * run.stride;
    for (int64_t c = 0; c < run.channels; ++c) sum[c] += fabsf(x[c]);
  }
  for (int64_t c = 0; c < run.channels; ++c) total[c] += static_cast<double>(sum[c]);
}

LATHE_CLONES void add_squares(Run run, double* __restrict total) {
  double sum[kTile] = {};
  for (int64_t row = 0; row < run.rows; ++row) {
    const float* x = run.x + row * run.stride;
    for (int64_t c = 0; c < run.channels; ++c) sum[c] += device::exact_square(x[c]);
  }
  for (int64_t c = 0; c < run.channels; ++c) total[c] += sum[c];
}

LATHE_CLONES void add_power_sums(Run run, double* __restrict first, double* __restrict third,
                                 double* __restrict fourth) {
  double sum[3][kTile] = {};
  for (int64_t row = 0; row < run.rows; ++row) {
    const float* x = run.x + row * run.stride;
    for (int64_t c = 0; c < run.channels; ++c) device::add_powers(x[c], sum[0][c], sum[1][c], sum[2][c]);
  }
  for (int64_t c = 0; c < run.channels; ++c) {
    first[c] += sum[0][c];
    third[c] += sum[1][c];
    fourth[c] += sum[2][c];
  }
}

LATHE_CLONES void count_outliers(Run run, int64_t* __restrict total) {
  int32_t count[kTile] = {};
  for (int64_t row = 0; row < run.rows; ++row) {
    const float* x = run.x + row * run.stride;
    for (int64_t c = 0; c < run.channels; ++c) count[c] += device::is_outlier(x[c]);
  }
  for (int64_t c = 0; c < run.channels; ++c) total[c] += count[c];
}

/// The sums over one call's rows, of a tile of channels.
struct TileSums {
  double magnitude[kTile] = {}, square[kTile] = {}, first[kTile] = {}, third[kTile] = {}, fourth[kTile] = {};
};

/// The extent of one call's rows, of a tile of channels.
struct TileExtent {
  float low[kTile], high[kTile];
};

void add_extent(const TileExtent& extent, int64_t begin, int64_t channels, const MomentOutputs& out) {
  for (int64_t c = 0; c < channels; ++c) {
    const float low = extent.low[c], high = extent.high[c];
    out.low[begin + c] = std::min(out.low[begin + c], low);
    out.high[begin + c] = std::max(out.high[begin + c], high);
    if (out.step_low == nullptr) continue;
    out.step_low[begin + c] = low + 0.0f;
    out.step_high[begin + c] = high + 0.0f;
  }
}

void add_to(double* total, const double* sums, int64_t channels) {
  for (int64_t c = 0; total != nullptr && c < channels; ++c) total[c] += sums[c];
}

/// All rows of the channels [begin, begin + channels). Returns the largest magnitude's bits.
uint32_t do_tile(MatrixLayout layout, const float* x, MomentOutputs out, int64_t begin, int64_t channels) {
  uint32_t bits[kTile] = {};
  TileSums sums;
  TileExtent extent;
  std::copy_n(x + begin, channels, extent.low);
  std::copy_n(x + begin, channels, extent.high);
  for (int64_t row = 0; row < layout.rows; row += kMomentRun) {
    const Run run{x + row * layout.width + begin, std::min(kMomentRun, layout.rows - row), layout.width,
                  channels};
    extend(run, extent.low, extent.high, bits);
    if (out.magnitude != nullptr) add_magnitudes(run, sums.magnitude);
    if (out.square != nullptr) add_squares(run, sums.square);
    if (out.first != nullptr) add_power_sums(run, sums.first, sums.third, sums.fourth);
    if (out.outliers != nullptr) count_outliers(run, out.outliers + begin);
  }
  const auto place = [&](double* total) { return total == nullptr ? nullptr : total + begin; };
  add_extent(extent, begin, channels, out);
  add_to(place(out.magnitude), sums.magnitude, channels);
  add_to(place(out.square), sums.square, channels);
  add_to(place(out.first), sums.first, channels);
  add_to(place(out.third), sums.third, channels);
  add_to(place(out.fourth), sums.fourth, channels);
  return *std::max_element(bits, bits + channels);
}

int64_t first_bad(MatrixLayout layout, const float* x) {
  for (int64_t i = 0; i < layout.rows * layout.width; ++i) {
    if (device::magnitude_bits(x[i]) > device::kLargestMagnitudeBits) return i;
  }
  return kNoneBad;
}

void add_chunk(MatrixLayout layout, const float* x, int64_t first_row, MomentOutputs out) {
  const int64_t tiles = (layout.width + kTile - 1) / kTile;
  std::vector<uint32_t> largest(static_cast<size_t>(tiles), 0);
  at::parallel_for(0, tiles, 1, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      const int64_t channel = tile * kTile;
      largest[static_cast<size_t>(tile)] =
          do_tile(layout, x, out, channel, std::min(kTile, layout.width - channel));
    }
  });
  if (std::none_of(largest.begin(), largest.end(),
                   [](uint32_t bits) { return bits > device::kLargestMagnitudeBits; }))
    return;
  *out.bad = std::min(*out.bad, first_row * layout.width + first_bad(layout, x));
}

}  // namespace

void channel_moments(MatrixLayout layout, const float* x, int64_t first_row, MomentOutputs out) {
  for (int64_t row = 0; row < layout.rows; row += device::kMomentChunk) {
    MatrixLayout chunk = layout;
    chunk.rows = std::min(device::kMomentChunk, layout.rows - row);
    add_chunk(chunk, x + row * layout.width, first_row + row, out);
    if (out.step_low == nullptr) continue;
    out.step_low += layout.width;
    out.step_high += layout.width;
  }
}

}  // namespace lathe::kernels::cpu
