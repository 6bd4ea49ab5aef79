// Rounding of activations on the CPU: threads over rows (-O3 -ffp-contract=off, without the precompiled
// header; see CMakeLists.txt).
#include <ATen/Parallel.h>

#include <algorithm>

#include "lib/kernels/input_quant_rows.h"
#include "lib/kernels/target_clones.h"

namespace lathe::kernels::cpu {
namespace {

constexpr int64_t kGrainElements = 1 << 14;

LATHE_CLONES void round_row(const float* x, int64_t width, float scale, float zero, float qmin, float qmax,
                            float* y) {
  for (int64_t i = 0; i < width; ++i)
    y[i] = device::decode_value(device::encode_input(x[i], {scale, zero}, qmin, qmax), {scale, zero});
}

LATHE_CLONES void round_numbers(const float* x, int64_t width, float scale, device::Minifloat number,
                                float* y) {
  for (int64_t i = 0; i < width; ++i) y[i] = device::round_on_grid(x[i], scale, number);
}

}  // namespace

void fake_quantize_input(InputRows layout, const float* x, float* y) {
  const int64_t grain = std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, layout.width));
  at::parallel_for(0, layout.rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t grid = layout.shared ? 0 : row;
      if (layout.number.mantissa != 0) {
        round_numbers(x + row * layout.width, layout.width, layout.scales[grid], layout.number,
                      y + row * layout.width);
        continue;
      }
      const float zero =
          layout.zeros == nullptr ? 0.0f : static_cast<float>(static_cast<int32_t>(layout.zeros[grid]));
      round_row(x + row * layout.width, layout.width, layout.scales[grid], zero, layout.qmin, layout.qmax,
                y + row * layout.width);
    }
  });
}

}  // namespace lathe::kernels::cpu
