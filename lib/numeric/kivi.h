// The number grid of KIVI's KV cache (Liu et al. 2024, arXiv 2402.02750, section 3.1): a group's values
// between its least and its largest, in 2^bits - 1 steps. This file is the definition, one group and one
// number at a time; lib/kernels/kivi.h does whole caches.
#pragma once

#include <span>

namespace lathe {

/// What a group's codes mean: code * scale + least. FP16 values.
struct KiviRange {
  float scale = 0, least = 0;
};

/// Rounds one group's numbers as the reference's quant_and_pack_kcache() and unpack_and_dequant_kcache() do
/// with FP16 tensors (KIVI, quant/new_pack.py): numbers, range, differences, quotients and what comes back
/// are each rounded to FP16,
///   scale = (largest - least) / (2^bits - 1)
///   code  = round(clamp((x - least) / scale, 0, 2^bits - 1)), ties to even
///   x    ~  code * scale + least
/// `out` (as long as `values`, which may be it) gets the numbers that come back. Where the scale is 0 (a
/// group of one value, or a range below FP16's numbers), all codes are 0 and the least comes back: the
/// reference divides by it. One NaN makes all of the group NaN, as amin() does. bits: 1 to 8.
KiviRange round_kivi_group(std::span<const float> values, int bits, std::span<float> out);

}  // namespace lathe
