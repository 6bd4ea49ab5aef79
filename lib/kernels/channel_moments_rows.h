// The raw-pointer face of the channel-moments kernels, the same for CPU and CUDA.
#pragma once

#include <cstdint>

#include "lib/kernels/device/channel_moments.cuh"

namespace lathe::kernels {

/// The type of an activation matrix.
enum class InputType : int32_t { f32 = 0, f16 = 1, bf16 = 2 };

/// Row-major, rows one after the other.
struct MatrixLayout {
  int64_t rows = 0;
  int64_t width = 0;
  InputType type = InputType::f32;
};

/// Running sums, [width] each; null where not wanted, but low, high and bad [1].
struct MomentOutputs {
  float* low = nullptr;
  float* high = nullptr;
  double* magnitude = nullptr;
  double* square = nullptr;
  double* first = nullptr;
  double* third = nullptr;
  double* fourth = nullptr;
  int64_t* outliers = nullptr;
  int64_t* bad = nullptr;
  float* step_low = nullptr;  // [chunks, width], of each chunk alone
  float* step_high = nullptr;
};

namespace cpu {
void channel_moments(MatrixLayout layout, const float* x, int64_t first_row, MomentOutputs out);
}  // namespace cpu

}  // namespace lathe::kernels
