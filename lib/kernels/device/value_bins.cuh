// Which bin of a log-linear sketch a value falls into: a few bits of the float itself, so that a bin costs a
// shift, and its edges are exact. For g++ (CPU) and nvcc.
//
// An octave [2^e, 2^(e+1)) has 2^m bins of equal width. This is DDSketch (Masson, Rim, Lee, arXiv 1908.10693)
// with the log-linear mapping of its section 2 in place of a logarithm: the middle of a bin differs from
// every value in it by at most 2^-(m+1) of the value. Counts are integers: adding two sketches is exact.
#pragma once

#include "lib/kernels/device/group_quant.cuh"

namespace lathe::device {

/// 2^m bins an octave, from exponent `lowest` up; smaller magnitudes fall into bin 0, larger into the last.
struct BinScale {
  int32_t mantissa_bits;
  int32_t lowest;   // exponent of the lowest octave
  int32_t octaves;  // bins: 1 + octaves * 2^mantissa_bits
};

/// For a whole tensor: 2^-11 relative. The mantissa of FP16 and BF16 fits into a bin number, so their values
/// are found exactly (subnormals of FP16 below 2^-14, too, for they have fewer digits).
constexpr BinScale kValueBins{10, -30, 89};
/// For each channel: 2^-6 relative, magnitudes 2^-20 to 2^16.
constexpr BinScale kChannelBins{5, -20, 36};

LATHE_HOST_DEVICE constexpr int32_t bin_count(BinScale scale) {
  return 1 + (scale.octaves << scale.mantissa_bits);
}

/// bits: of the magnitude (sign cleared).
LATHE_HOST_DEVICE int32_t bin_of(uint32_t bits, BinScale scale) {
  const int32_t shift = 23 - scale.mantissa_bits;
  const int32_t first = (127 + scale.lowest) << scale.mantissa_bits;
  const int32_t bin = static_cast<int32_t>(bits >> shift) - first + 1;
  const int32_t last = scale.octaves << scale.mantissa_bits;
  return bin < 0 ? 0 : (bin > last ? last : bin);
}

/// Smallest magnitude of a bin; for bin 0, zero. The upper edge is the next bin's.
LATHE_HOST_DEVICE float bin_edge(int32_t bin, BinScale scale) {
  if (bin <= 0) return 0.0f;
  const uint32_t first = static_cast<uint32_t>((127 + scale.lowest) << scale.mantissa_bits);
  return bits_float((first + static_cast<uint32_t>(bin - 1)) << (23 - scale.mantissa_bits));
}

/// Bins of whole-tensor sketches that a CUDA block counts in shared memory: 12 octaves.
constexpr int32_t kOctaveBins = 1 << kValueBins.mantissa_bits;
constexpr int32_t kWindowBins = 12 * kOctaveBins;

/// The first bin of a window that ends with the octave above that of bin `top`, moved to lie within the
/// sketch.
LATHE_HOST_DEVICE int32_t window_begin(int32_t top) {
  const int32_t octave = (top + kOctaveBins - 1) / kOctaveBins;  // its last bin is octave * kOctaveBins
  const int32_t begin = (octave + 1) * kOctaveBins + 1 - kWindowBins;
  const int32_t last = bin_count(kValueBins) - kWindowBins;
  return begin < 1 ? 1 : (begin > last ? last : begin);
}

}  // namespace lathe::device
