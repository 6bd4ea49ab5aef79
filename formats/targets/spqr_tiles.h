// The words of SpQR's tiles (layout: spqr.h), packed and unpacked.
#pragma once

#include <ATen/core/Tensor.h>

#include "lib/numeric/quantized_tensor.h"

namespace lathe {

/// codes: Byte [out, in], 0 .. 7, columns in the permuted order. Long [out/16 * in/16 * 16].
at::Tensor pack_spqr_tiles(const at::Tensor& codes, const SecondLevel& level);

struct SpqrTiles {
  at::Tensor codes;  // Byte [out, in]
  SecondLevel level;
  at::Tensor consistent;  // Bool: both copies of each byte of the second level agree, and no spare bit is set
};
/// The inverse. words: Long, contiguous, CPU.
SpqrTiles unpack_spqr_tiles(const at::Tensor& words, int64_t out, int64_t in);

/// Scales or zeros [out, groups] as the consumer computes them from their codes, in FP16.
at::Tensor decode_second_level(const at::Tensor& codes, const at::Tensor& scales, const at::Tensor& zeros);

}  // namespace lathe
