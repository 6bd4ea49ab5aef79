// The raw-pointer face of the transformer kernels (FP32): no tensor type, no allocation.
#pragma once

#include <cstdint>

#include "lib/kernels/device/transformer.cuh"

namespace lathe::kernels {

/// `rows` rows of `width` contiguous values, `stride` values from one row's start to the next.
struct RowLayout {
  int64_t rows = 0, width = 0, stride = 0;
};

/// Heads of tokens: token t's head h begins at t * stride + h * head_dim. The first `rotary` channels of a
/// head are turned; token t stands at position t % positions of tables [positions, rotary].
struct HeadLayout {
  int64_t tokens = 0, heads = 0, head_dim = 0, stride = 0;
  int64_t rotary = 0, positions = 0;
};

/// How a gate is bent before it is multiplied with `up`.
struct GateFunction {
  enum class Kind : int32_t { scaled_silu, gelu_tanh, relu, relu2 };
  Kind kind = Kind::scaled_silu;
  float slope = 1;  // scaled_silu only
};

namespace cpu {
/// y [rows, width] contiguous: x / sqrt(mean(x^2) + eps) * (offset + weight).
void rms_norm(RowLayout layout, const float* x, const float* weight, float offset, float eps, float* y);
void rotate_heads(HeadLayout layout, const float* cosines, const float* sines, float* x);
/// out [rows, width] contiguous: function(gate) * up; out may be gate. gate and up lie as `layout` says.
void gated_product(RowLayout layout, GateFunction function, const float* gate, const float* up, float* out);
}  // namespace cpu

}  // namespace lathe::kernels
