// Checks and dispatch; the loops are in gptq_block_cpu.cc and cuda/gptq_block_cuda.cu.
#include "lib/kernels/gptq_block.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include "lib/base/error.h"
#include "lib/kernels/cuda_library.h"
#include "lib/kernels/group_grid.h"

namespace lathe::kernels {
namespace {

void check_part(const at::Tensor& part, at::ScalarType type, int64_t rows, int64_t columns,
                const char* name) {
  LATHE_ASSERT(part.dim() == 2 && part.size(0) == rows && part.size(1) == columns &&
                   part.scalar_type() == type && (part.stride(1) == 1 || columns == 1),
               "GPTQ block: {} is not [{}, {}] of {}", name, rows, columns, c10::toString(type));
}

void check_grids(const GroupParams& params, const at::Tensor& column_group, const Scheme& scheme,
                 int64_t rows, int64_t columns) {
  LATHE_ASSERT(params.scales.dim() == 2 && params.scales.size(0) == rows && params.scales.is_contiguous() &&
                   params.scales.scalar_type() == at::kFloat,
               "GPTQ block: scales don't fit {} rows", rows);
  LATHE_ASSERT(!params.global.defined(), "GPTQ block: scales under a global one are not what weights are in");
  LATHE_ASSERT(params.zero_points.defined() != scheme.symmetric, "GPTQ block: zero points and scheme differ");
  LATHE_ASSERT(scheme.symmetric ||
                   (params.zero_points.sizes() == params.scales.sizes() &&
                    params.zero_points.is_contiguous() && params.zero_points.scalar_type() == at::kChar),
               "GPTQ block: zero points don't fit the scales");
  LATHE_ASSERT(column_group.dim() == 1 && column_group.size(0) == columns && column_group.is_contiguous() &&
                   column_group.scalar_type() == at::kInt,
               "GPTQ block: the groups of {} columns don't fit", columns);
}

template <class T>
GptqBlock<T> block_of(const at::Tensor& weight, const at::Tensor& factor, const GroupParams& params,
                      const at::Tensor& column_group, const Scheme& scheme, const at::Tensor& codes,
                      const at::Tensor& errors) {
  return {.rows = weight.size(0),
          .columns = weight.size(1),
          .groups = params.scales.size(1),
          .weight = weight.const_data_ptr<T>(),
          .weight_stride = weight.stride(0),
          .factor = factor.const_data_ptr<T>(),
          .factor_stride = factor.stride(0),
          .scales = params.scales.const_data_ptr<float>(),
          .zeros = scheme.symmetric ? nullptr : params.zero_points.const_data_ptr<int8_t>(),
          .column_group = column_group.const_data_ptr<int32_t>(),
          .qmin = static_cast<float>(scheme.qmin()),
          .qmax = static_cast<float>(scheme.qmax()),
          .number = grid_of(scheme, DType::F32).number,
          .codes = codes.data_ptr<int8_t>(),
          .codes_stride = codes.stride(0),
          .errors = errors.data_ptr<T>(),
          .errors_stride = errors.stride(0)};
}

}  // namespace

void gptq_block(const at::Tensor& weight, const at::Tensor& factor, const GroupParams& params,
                const at::Tensor& column_group, const Scheme& scheme, const at::Tensor& codes,
                const at::Tensor& errors) {
  const int64_t rows = weight.size(0), columns = weight.size(1);
  const at::ScalarType type = weight.scalar_type();
  LATHE_ASSERT(type == at::kFloat || type == at::kDouble, "GPTQ block: weights of {}", c10::toString(type));
  LATHE_ASSERT(columns <= kGptqColumns, "GPTQ block: {} columns", columns);
  check_part(weight, type, rows, columns, "the weight");
  check_part(factor, type, columns, columns, "the factor");
  check_part(errors, type, rows, columns, "the errors");
  check_part(codes, at::kChar, rows, columns, "the codes");
  check_grids(params, column_group, scheme, rows, columns);
  const bool fp32 = type == at::kFloat;
  if (weight.is_cpu()) {
    if (fp32) {
      cpu::gptq_block(block_of<float>(weight, factor, params, column_group, scheme, codes, errors));
    } else {
      cpu::gptq_block(block_of<double>(weight, factor, params, column_group, scheme, codes, errors));
    }
    return;
  }
  const c10::DeviceGuard guard(weight.device());
  const CudaLibrary& cuda = cuda_library();
  const LatheCudaQueue queue = current_queue(weight.device());
  if (fp32) {
    const auto block = block_of<float>(weight, factor, params, column_group, scheme, codes, errors);
    cuda.check(cuda.gptq_block_f32(queue, &block), "gptq_block");
  } else {
    const auto block = block_of<double>(weight, factor, params, column_group, scheme, codes, errors);
    cuda.check(cuda.gptq_block_f64(queue, &block), "gptq_block");
  }
}

}  // namespace lathe::kernels
