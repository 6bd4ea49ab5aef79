// Loops of both backends behind code_layout.h: pointers and sizes, no ATen (nvcc includes it).
#pragma once

#include <cstdint>

#include "lib/kernels/device/code_layout.cuh"

namespace lathe::kernels {

/// Codes of a matrix that may be smaller than the stored one.
struct CodeMatrix {
  int8_t* codes = nullptr;    // [out, in], row-major
  uint32_t* words = nullptr;  // words_of_layout()
  int64_t in = 0, out = 0;    // of the codes
};

/// Scales of MX and NVFP4: [rows, columns] and their tiles.
struct ScaleMatrix {
  uint8_t* rows_of_scales = nullptr;
  uint8_t* tiles = nullptr;
  int64_t rows = 0, columns = 0;
};

namespace cpu {
void pack_codes(const device::CodeLayout& layout, const CodeMatrix& matrix);
void unpack_codes(const device::CodeLayout& layout, const CodeMatrix& matrix);
/// 3 bits; `in` a multiple of 32. Words [in / 32 * 3, out].
void pack_exllama3(const CodeMatrix& matrix);
void unpack_exllama3(const CodeMatrix& matrix);
/// Tiles are zero where there is no scale.
void swizzle_scales(const ScaleMatrix& matrix);
void unswizzle_scales(const ScaleMatrix& matrix);
}  // namespace cpu

}  // namespace lathe::kernels
