// Codes in the order in which a GEMM kernel wants them, and scales in tiles; device/code_layout.cuh says
// where each one stands. CPU and CUDA put the same bytes at the same places.
#pragma once

#include <ATen/core/Tensor.h>

#include "lib/kernels/device/code_layout.cuh"

namespace lathe::kernels {

/// Does the block divide the stored matrix? (Otherwise pack_codes() is an InternalError.)
bool divides(const device::CodeLayout& layout);

/// Char [out, in], codes in [-2^(bits-1), 2^(bits-1)) -> Int [words], on the codes' device. Where the stored
/// matrix is larger, fields beyond the codes are 0.
at::Tensor pack_codes(const at::Tensor& codes, const device::CodeLayout& layout);
/// The inverse: Int [words] -> Char [out, in]; what lies beyond is not looked at.
at::Tensor unpack_codes(const at::Tensor& words, const device::CodeLayout& layout, int64_t out, int64_t in);

/// ExLlama's 3 bits, which is no sequence of fields: Char [out, in], in a multiple of 32 -> Int
/// [in / 32 * 3, out]; and back.
at::Tensor pack_exllama3(const at::Tensor& codes);
at::Tensor unpack_exllama3(const at::Tensor& words);

/// Bytes [rows, columns] (E4M3 or E8M0 scales, one for each block of a row) -> Byte [128 ceil(rows / 128),
/// 4 ceil(columns / 4)] in tiles, 0 where there is no scale; and back.
at::Tensor swizzle_scales(const at::Tensor& scales);
at::Tensor unswizzle_scales(const at::Tensor& tiles, int64_t rows, int64_t columns);

}  // namespace lathe::kernels
