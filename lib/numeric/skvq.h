// The number grid of SKVQ's cache (Duanmu et al. 2024, arXiv 2405.06219, section 3.2, "clipped dynamic
// quantization"): a group's range, shrunk by a calibrated factor, in levels - 1 steps. This file is the
// definition, one group of a token's channels at a time, as the reference does with FP16 tensors
// (github.com/cat538/SKVQ, KV_process.py, quant_pytorch()); lib/kernels/skvq.h does whole caches.
#pragma once

#include <span>

namespace lathe {

/// Rounds the numbers of a group; every result is rounded to FP16:
///   least, largest = clip * those of the group;  scale = max((largest - least) / (levels - 1), 1e-5)
///   code = round(clamp((x - least) / scale, 0, levels - 1)), ties to even
///   x   ~  code * scale + least
/// With fp8_scales, scale and least of the last line are rounded to FP8 (E4M3, clamped to +-448) first, as
/// the cache stores them; codes are found with the others, as in the reference. `out` is as long as `values`,
/// which may be it. 0 < clip <= 1; levels: 2^bits, and 3 of the reference's 1.5 bits.
void round_skvq_group(std::span<const float> values, float clip, int levels, bool fp8_scales,
                      std::span<float> out);

}  // namespace lathe
