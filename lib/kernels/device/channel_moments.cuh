// The arithmetic of one activation's part in its channel's statistics, for g++ (CPU) and nvcc. Sums of
// magnitudes are FP32 over kMomentRun consecutive rows, then FP64; power sums, whose differences lose digits,
// are FP64 from the start. The same operations in the same order on CPU and CUDA, so that both
// give the same bits (-ffp-contract=off, --fmad=false).
#pragma once

#include "lib/kernels/device/group_quant.cuh"

namespace lathe::device {

/// Rows whose terms are added in FP32 before the sum goes to FP64: at most 63 roundings, 3.8e-6 of the sum in
/// the worst case.
constexpr int64_t kMomentRun = 64;
/// Rows whose runs' sums are added before they go to the running sum.
constexpr int64_t kMomentChunk = 2048;

/// 2^58: values beyond it are refused, for the squares of 2^11 of them may overflow FP32.
constexpr uint32_t kLargestMagnitudeBits = 0x5c800000u;

/// |x| as bits: ordered like the magnitudes, infinity above all numbers and NaN above infinity.
LATHE_HOST_DEVICE uint32_t magnitude_bits(float x) { return float_bits(x) & 0x7fffffffu; }

/// LLM.int8() (arXiv 2208.07339, section 3.2 and appendix) calls a feature of magnitude 6 or more an outlier.
constexpr float kOutlierMagnitude = 6.0f;

LATHE_HOST_DEVICE int32_t is_outlier(float x) { return fabsf(x) >= kOutlierMagnitude ? 1 : 0; }

/// x^2 without rounding: 48 bits of mantissa.
LATHE_HOST_DEVICE double exact_square(float x) { return static_cast<double>(x) * static_cast<double>(x); }

/// Adds x, x^3 and x^4 to FP64 sums; each operation is rounded once.
LATHE_HOST_DEVICE void add_powers(float value, double& first, double& third, double& fourth) {
  const double x = static_cast<double>(value);
  const double square = exact_square(value);
  first += x;
  third += square * x;
  fourth += square * square;
}

}  // namespace lathe::device
