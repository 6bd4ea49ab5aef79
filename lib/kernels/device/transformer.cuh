// The arithmetic of one value of a transformer block's glue (activation functions, rotary pairs), for g++
// (CPU) and nvcc. Single IEEE-754 binary32 operations in a fixed order: every instruction set gives the same
// bits, and a loop over them vectorises. C++17, no library calls.
#pragma once

#include "lib/kernels/device/group_quant.cuh"

namespace lathe::device {

/// e^x within 2 ulp for x in [-87.3, 88.3]; below, e^-87.3 (1.2e-38); above, infinity. A NaN gives e^-87.3:
/// callers multiply by their argument, which keeps the NaN. (Cody and Waite's reduction to |r| <= ln(2) / 2,
/// then the minimax polynomial of Cephes' expf.)
LATHE_HOST_DEVICE float exp_value(float x) {
  const float clamped = clamp_value(x, -87.3f, 89.0f);
  const float n = round_half_even(clamped * 1.44269504088896341f);
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;  // the first constant times n is exact
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float mantissa = (p * (r * r) + r) + 1.0f;
  // n is in [-126, 128]; 128 gives the bits of infinity
  const uint32_t power = static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23;
  return mantissa * bits_float(power);
}

/// 1 / (1 + e^-x)
LATHE_HOST_DEVICE float sigmoid_value(float x) { return 1.0f / (1.0f + exp_value(-x)); }

/// x * sigmoid(slope * x): SiLU with slope 1 (arXiv 1702.03118), "quick GELU" with 1.702.
LATHE_HOST_DEVICE float scaled_silu_value(float x, float slope) { return x * sigmoid_value(slope * x); }

/// GELU's tanh form (arXiv 1606.08415, section 2): x / 2 * (1 + tanh(u)) with u = sqrt(2 / pi) * (x +
/// 0.044715 x^3), computed as x * sigmoid(2 u), which does not cancel for x < 0.
LATHE_HOST_DEVICE float gelu_tanh_value(float x) {
  const float inner = x + 0.044715f * (x * x * x);
  return x * sigmoid_value(1.59576912160573071f * inner);
}

/// A NaN stays one.
LATHE_HOST_DEVICE float relu_value(float x) { return x < 0 ? 0.0f : x; }

/// (a, b) turned by an angle.
struct Pair {
  float a, b;
};
LATHE_HOST_DEVICE Pair rotate_pair(Pair x, Pair cosines, Pair sines) {
  return {x.a * cosines.a - x.b * sines.a, x.b * cosines.b + x.a * sines.b};
}

}  // namespace lathe::device
