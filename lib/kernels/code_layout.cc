// Checks, allocation and dispatch; the loops are in code_layout_cpu.cc and cuda/code_layout_cuda.cu.
#include "lib/kernels/code_layout.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include "lib/base/checked.h"
#include "lib/base/error.h"
#include "lib/kernels/code_layout_rows.h"
#include "lib/kernels/cuda_library.h"

namespace lathe::kernels {
namespace {

using device::CodeLayout;

void check(const at::Tensor& tensor, at::ScalarType type, int64_t dim, const char* what) {
  LATHE_ASSERT((tensor.is_cpu() || tensor.is_cuda()) && tensor.is_contiguous() &&
                   tensor.scalar_type() == type && tensor.dim() == dim,
               "code layout: expected {}", what);
}

CodeMatrix matrix_of(const at::Tensor& codes, const at::Tensor& words) {
  return {codes.data_ptr<int8_t>(), reinterpret_cast<uint32_t*>(words.data_ptr<int32_t>()), codes.size(1),
          codes.size(0)};
}

/// Runs the CPU's loop, or CUDA's on the tensor's device.
template <class Cpu, class Cuda>
void dispatch(const at::Tensor& tensor, const char* name, const Cpu& on_cpu, const Cuda& on_cuda) {
  if (tensor.is_cpu()) return on_cpu();
  const c10::DeviceGuard guard(tensor.device());
  const CudaLibrary& cuda = cuda_library();
  cuda.check(on_cuda(cuda, current_queue(tensor.device())), name);
}

void check_layout(const CodeLayout& layout, int64_t out, int64_t in) {
  LATHE_ASSERT(divides(layout) && layout.out >= out && layout.in >= in,
               "code layout: [{}, {}] of {} bits stored as [{}, {}]", out, in, layout.bits, layout.out,
               layout.in);
}

}  // namespace

bool divides(const CodeLayout& layout) {
  if (layout.bits != 2 && layout.bits != 4 && layout.bits != 8) return false;
  const device::BlockSides sides = device::block_sides(layout);
  return layout.in > 0 && layout.out > 0 && layout.in % sides.in == 0 && layout.out % sides.out == 0;
}

at::Tensor pack_codes(const at::Tensor& codes, const CodeLayout& layout) {
  check(codes, at::kChar, 2, "Char [out, in]");
  check_layout(layout, codes.size(0), codes.size(1));
  at::Tensor words = at::empty({device::words_of_layout(layout)}, codes.options().dtype(at::kInt));
  const CodeMatrix matrix = matrix_of(codes, words);
  dispatch(
      codes, "pack_codes", [&] { cpu::pack_codes(layout, matrix); },
      [&](const CudaLibrary& cuda, LatheCudaQueue queue) { return cuda.pack_codes(queue, layout, matrix); });
  return words;
}

at::Tensor unpack_codes(const at::Tensor& words, const CodeLayout& layout, int64_t out, int64_t in) {
  check(words, at::kInt, 1, "Int [words]");
  check_layout(layout, out, in);
  LATHE_ASSERT(words.numel() == device::words_of_layout(layout), "code layout: {} words", words.numel());
  at::Tensor codes = at::empty({out, in}, words.options().dtype(at::kChar));
  const CodeMatrix matrix = matrix_of(codes, words);
  dispatch(
      words, "unpack_codes", [&] { cpu::unpack_codes(layout, matrix); },
      [&](const CudaLibrary& cuda, LatheCudaQueue queue) {
        return cuda.unpack_codes(queue, layout, matrix);
      });
  return codes;
}

at::Tensor pack_exllama3(const at::Tensor& codes) {
  check(codes, at::kChar, 2, "Char [out, in]");
  LATHE_ASSERT(codes.size(1) % 32 == 0, "exllama: {} columns of 3 bits", codes.size(1));
  at::Tensor words = at::empty({codes.size(1) / 32 * 3, codes.size(0)}, codes.options().dtype(at::kInt));
  const CodeMatrix matrix = matrix_of(codes, words);
  dispatch(
      codes, "pack_exllama3", [&] { cpu::pack_exllama3(matrix); },
      [&](const CudaLibrary& cuda, LatheCudaQueue queue) { return cuda.pack_exllama3(queue, matrix); });
  return words;
}

at::Tensor unpack_exllama3(const at::Tensor& words) {
  check(words, at::kInt, 2, "Int [in / 32 * 3, out]");
  LATHE_ASSERT(words.size(0) % 3 == 0, "exllama: {} rows of words of 3 bits", words.size(0));
  at::Tensor codes = at::empty({words.size(1), words.size(0) / 3 * 32}, words.options().dtype(at::kChar));
  const CodeMatrix matrix = matrix_of(codes, words);
  dispatch(
      words, "unpack_exllama3", [&] { cpu::unpack_exllama3(matrix); },
      [&](const CudaLibrary& cuda, LatheCudaQueue queue) { return cuda.unpack_exllama3(queue, matrix); });
  return codes;
}

at::Tensor swizzle_scales(const at::Tensor& scales) {
  check(scales, at::kByte, 2, "Byte [rows, columns]");
  const int64_t rows = scales.size(0), columns = scales.size(1);
  at::Tensor tiles =
      at::empty({128 * ceil_div(rows, int64_t{128}), 4 * ceil_div(columns, int64_t{4})}, scales.options());
  const ScaleMatrix matrix{scales.data_ptr<uint8_t>(), tiles.data_ptr<uint8_t>(), rows, columns};
  dispatch(
      scales, "swizzle_scales", [&] { cpu::swizzle_scales(matrix); },
      [&](const CudaLibrary& cuda, LatheCudaQueue queue) { return cuda.swizzle_scales(queue, matrix); });
  return tiles;
}

at::Tensor unswizzle_scales(const at::Tensor& tiles, int64_t rows, int64_t columns) {
  check(tiles, at::kByte, 2, "Byte [rows, columns] of tiles");
  LATHE_ASSERT(tiles.size(0) == 128 * ceil_div(rows, int64_t{128}) &&
                   tiles.size(1) == 4 * ceil_div(columns, int64_t{4}),
               "scale tiles [{}, {}] of [{}, {}]", tiles.size(0), tiles.size(1), rows, columns);
  at::Tensor scales = at::empty({rows, columns}, tiles.options());
  const ScaleMatrix matrix{scales.data_ptr<uint8_t>(), tiles.data_ptr<uint8_t>(), rows, columns};
  dispatch(
      tiles, "unswizzle_scales", [&] { cpu::unswizzle_scales(matrix); },
      [&](const CudaLibrary& cuda, LatheCudaQueue queue) { return cuda.unswizzle_scales(queue, matrix); });
  return scales;
}

}  // namespace lathe::kernels
