// liblathe_cuda.so, Lathe's own CUDA kernels: opened at first use, so that the program starts (and is
// shipped) without it.
#pragma once

#include <c10/core/Device.h>

#include <filesystem>

#include "lib/kernels/cuda/code_layout_cuda.h"
#include "lib/kernels/cuda/dequantize_cuda.h"
#include "lib/kernels/cuda/gptq_block_cuda.h"
#include "lib/kernels/cuda/group_quant_cuda.h"
#include "lib/kernels/cuda/group_search_cuda.h"
#include "lib/kernels/cuda/hqq_cuda.h"
#include "lib/kernels/cuda/input_quant_cuda.h"
#include "lib/kernels/cuda/spqr_group_cuda.h"
#include "lib/kernels/cuda/statistics_cuda.h"
#include "lib/kernels/cuda/transformer_cuda.h"

namespace lathe::kernels {

struct CudaLibrary {
  decltype(&lathe_cuda_group_min_max) group_min_max = nullptr;
  decltype(&lathe_cuda_group_params) group_params = nullptr;
  decltype(&lathe_cuda_group_encode) group_encode = nullptr;
  decltype(&lathe_cuda_dequantize) dequantize = nullptr;
  decltype(&lathe_cuda_group_fake_quantize) group_fake_quantize = nullptr;
  decltype(&lathe_cuda_gptq_block_f32) gptq_block_f32 = nullptr;
  decltype(&lathe_cuda_gptq_block_f64) gptq_block_f64 = nullptr;
  decltype(&lathe_cuda_search_ranges) search_ranges = nullptr;
  decltype(&lathe_cuda_hqq) hqq = nullptr;
  decltype(&lathe_cuda_spqr_group_f32) spqr_group_f32 = nullptr;
  decltype(&lathe_cuda_spqr_group_f64) spqr_group_f64 = nullptr;
  decltype(&lathe_cuda_channel_moments) channel_moments = nullptr;
  decltype(&lathe_cuda_value_counts) value_counts = nullptr;
  decltype(&lathe_cuda_channel_value_counts) channel_value_counts = nullptr;
  decltype(&lathe_cuda_row_extent) row_extent = nullptr;
  decltype(&lathe_cuda_rms_norm) rms_norm = nullptr;
  decltype(&lathe_cuda_rotate_heads) rotate_heads = nullptr;
  decltype(&lathe_cuda_gated_product) gated_product = nullptr;
  decltype(&lathe_cuda_fake_quantize_input) fake_quantize_input = nullptr;
  decltype(&lathe_cuda_pack_codes) pack_codes = nullptr;
  decltype(&lathe_cuda_unpack_codes) unpack_codes = nullptr;
  decltype(&lathe_cuda_pack_exllama3) pack_exllama3 = nullptr;
  decltype(&lathe_cuda_unpack_exllama3) unpack_exllama3 = nullptr;
  decltype(&lathe_cuda_swizzle_scales) swizzle_scales = nullptr;
  decltype(&lathe_cuda_unswizzle_scales) unswizzle_scales = nullptr;
  decltype(&lathe_cuda_error_text) error_text = nullptr;

  /// Throws InternalError with the kernel's name and CUDA's reason where code is not 0.
  void check(int code, const char* kernel) const;
};

/// The library beside the running executable. UserError where the build has no CUDA kernels.
const CudaLibrary& cuda_library();

/// The library at `path`, with all its functions found. UserError where it can't be opened or lacks one.
CudaLibrary open_cuda_library(const std::filesystem::path& path);

/// ATen's current stream of a CUDA device, for a kernel launch.
LatheCudaQueue current_queue(c10::Device device);

}  // namespace lathe::kernels
