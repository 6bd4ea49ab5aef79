// The raw-pointer face of GPTQ's column kernel, the same for CPU and CUDA.
#pragma once

#include <cstdint>

#include "lib/kernels/device/gptq_block.cuh"

namespace lathe::kernels {

/// The most columns that one call rounds: a row of them fits into a warp's registers.
constexpr int64_t kGptqColumns = 128;

/// Row-major matrices with strides between rows. T: float or double.
template <class T>
struct GptqBlock {
  int64_t rows = 0, columns = 0, groups = 0;
  const T* weight = nullptr;  // [rows, columns]
  int64_t weight_stride = 0;
  const T* factor = nullptr;  // [columns, columns], the upper triangle
  int64_t factor_stride = 0;
  const float* scales = nullptr;          // [rows, groups]
  const int8_t* zeros = nullptr;          // [rows, groups], null where the grid is symmetric
  const int32_t* column_group = nullptr;  // [columns]
  float qmin = 0, qmax = 0;
  device::Minifloat number = {};  // of a floating-point grid, which has no zeros and no ends
  int8_t* codes = nullptr;        // [rows, columns]
  int64_t codes_stride = 0;
  T* errors = nullptr;  // [rows, columns]
  int64_t errors_stride = 0;
};

namespace cpu {
void gptq_block(const GptqBlock<float>& block);
void gptq_block(const GptqBlock<double>& block);
}  // namespace cpu

}  // namespace lathe::kernels
