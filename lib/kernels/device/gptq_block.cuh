// The arithmetic of GPTQ's column loop, for g++ (CPU) and nvcc (host and device): what happens to one weight
// when its column is rounded. Single IEEE operations in a fixed order, as in group_quant.cuh, in FP32 or
// FP64.
#pragma once

#include "lib/kernels/device/group_quant.cuh"

namespace lathe::device {

/// Nearest integer, ties to even, for |x| < 2^51.
LATHE_HOST_DEVICE double round_half_even(double x) {
  const double magic = 6755399441055744.0;  // 1.5 * 2^52
  return (x + magic) - magic;
}

/// A weight's code (an integer, or a number's bits), and its rounding error divided by the pivot U[j, j]:
/// what the later columns of its row make up for.
template <class T>
struct RoundedWeight {
  T code, error;
};

/// The code is that of encode_value, in T. scale > 0, pivot > 0.
template <class T>
LATHE_HOST_DEVICE RoundedWeight<T> round_weight(T weight, T scale, T zero, T pivot, T qmin, T qmax) {
  const T low = qmin - zero, high = qmax - zero;
  T steps = weight / scale;
  steps = steps > low ? (steps < high ? steps : high) : low;  // a NaN becomes `low`
  steps = round_half_even(steps);
  return {steps + zero, (weight - scale * steps) / pivot};
}

/// On a floating-point grid: the code of the nearest number. A NaN's code means nothing, and its error is
/// NaN.
template <class T>
LATHE_HOST_DEVICE RoundedWeight<T> round_weight(T weight, T scale, T pivot, Minifloat format) {
  const T number = nearest_number(weight / scale, format);
  return {static_cast<T>(number_code(static_cast<float>(number), format)), (weight - scale * number) / pivot};
}

/// A later weight of the row, after the column with that error; factor is U[j, k].
template <class T>
LATHE_HOST_DEVICE T compensate(T weight, T error, T factor) {
  return weight - error * factor;
}

}  // namespace lathe::device
