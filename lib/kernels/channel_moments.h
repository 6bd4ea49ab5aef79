// Per-channel sums over the rows of an activation matrix: the one pass that most statistics come from.
// Computes on the device of its argument; CPU and CUDA give the same bits (device/channel_moments.cuh).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "lib/kernels/device/channel_moments.cuh"

namespace lathe::kernels {

/// Which sums to make. The extent (smallest, largest, first bad element) is always made: it is the check for
/// NaN and infinity.
struct MomentsWanted {
  bool magnitude = false;  // sum |x|
  bool square = false;     // sum x^2
  bool powers = false;     // sum x, x^3, x^4
  bool outliers = false;   // count of |x| >= 6
};

/// Sums over all rows that were added. Undefined tensors were not asked for.
struct ChannelMoments {
  at::Tensor low, high;             // Float [width]: minimum and maximum; infinite before the first row
  at::Tensor magnitude;             // Double [width]
  at::Tensor square;                // Double [width]
  at::Tensor first, third, fourth;  // Double [width]
  at::Tensor outliers;              // Long [width]
  /// Long [1]: row * width + channel of the first element that is NaN, infinite or beyond 2^58, or kNoneBad.
  at::Tensor bad;
};

/// Minimum and maximum of each chunk of one call; undefined where not wanted.
struct StepExtrema {
  at::Tensor low, high;  // Float [chunks, width], written to
};

constexpr int64_t kNoneBad = INT64_MAX;
/// Rows of a chunk, which are summed before their sum is added to what came before; the last of a call may
/// have fewer.
constexpr int64_t kMomentChunkRows = device::kMomentChunk;
/// Chunks that one call takes at most: a GPU is busier with several at once.
constexpr int64_t kMaxMomentChunks = 8;
/// 2^58.
constexpr float kLargestMagnitude = 288230376151711744.0f;

/// Of no rows.
ChannelMoments no_moments(int64_t width, MomentsWanted wanted, c10::Device device);

/// Adds the rows of x, which is contiguous [rows, width] with at most kMaxMomentChunks chunks, Float, on CUDA
/// Half or BFloat16, too. Each chunk is summed first, and the sums are added to `moments` in their order.
/// first_row: how many rows came before, for `bad`. Two kernels at most, no wait for the device.
void add_channel_moments(const at::Tensor& x, const ChannelMoments& moments, int64_t first_row,
                         const StepExtrema& step = {});

}  // namespace lathe::kernels
