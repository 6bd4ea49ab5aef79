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

LATHE_CLONES void count_outliers(Run run, int32_t* __restrict count) {
  for (int64_t row = 0; row < run.rows; ++row) {
    const float* x = run.x + row * run.stride;
    for (int64_t c = 0; c < run.channels; ++c) count[c] += device::is_outlier(x[c]);
  }
}

/// All rows of the channels [begin, begin + channels). Returns the largest magnitude's bits.
uint32_t do_tile(MatrixLayout layout, const float* x, MomentOutputs out, int64_t begin, int64_t channels) {
  uint32_t bits[kTile] = {};
  std::copy_n(x + begin, channels, out.low + begin);
  std::copy_n(x + begin, channels, out.high + begin);
  for (double* sums : {out.magnitude, out.square, out.first, out.third, out.fourth}) {
    if (sums != nullptr) std::fill_n(sums + begin, channels, 0.0);
  }
  if (out.outliers != nullptr) std::fill_n(out.outliers + begin, channels, 0);
  for (int64_t row = 0; row < layout.rows; row += kMomentRun) {
    const Run run{x + row * layout.width + begin, std::min(kMomentRun, layout.rows - row), layout.width,
                  channels};
    extend(run, out.low + begin, out.high + begin, bits);
    if (out.magnitude != nullptr) add_magnitudes(run, out.magnitude + begin);
    if (out.square != nullptr) add_squares(run, out.square + begin);
    if (out.first != nullptr) add_power_sums(run, out.first + begin, out.third + begin, out.fourth + begin);
    if (out.outliers != nullptr) count_outliers(run, out.outliers + begin);
  }
  return *std::max_element(bits, bits + channels);
}

int64_t first_bad(MatrixLayout layout, const float* x) {
  for (int64_t i = 0; i < layout.rows * layout.width; ++i) {
    if (device::magnitude_bits(x[i]) > device::kLargestMagnitudeBits) return i;
  }
  return kNoneBad;
}

}  // namespace

void channel_moments(MatrixLayout layout, const float* x, MomentOutputs out) {
  const int64_t tiles = (layout.width + kTile - 1) / kTile;
  std::vector<uint32_t> largest(static_cast<size_t>(tiles), 0);
  at::parallel_for(0, tiles, 1, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      const int64_t channel = tile * kTile;
      largest[static_cast<size_t>(tile)] =
          do_tile(layout, x, out, channel, std::min(kTile, layout.width - channel));
    }
  });
  for (const uint32_t bits : largest) {
    if (bits > device::kLargestMagnitudeBits) *out.bad = first_bad(layout, x);
  }
}

}  // namespace lathe::kernels::cpu
