// Checks and dispatch; the loops are in spqr_group_cpu.cc and cuda/spqr_group_cuda.cu.
#include "lib/kernels/spqr_group.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include "lib/base/error.h"
#include "lib/kernels/cuda_library.h"
#include "lib/kernels/spqr_group_rows.h"

namespace lathe::kernels {
namespace {

void check_matrix(const at::Tensor& part, at::ScalarType type, at::IntArrayRef shape, const char* name) {
  LATHE_ASSERT(part.sizes() == shape && part.scalar_type() == type && (part.stride(1) == 1 || shape[1] == 1),
               "SpQR group: {} doesn't fit", name);
}

void check(const SpqrGroupTensors& g) {
  const at::ScalarType type = g.weight.scalar_type();
  const int64_t rows = g.weight.size(0), columns = g.weight.size(1);
  LATHE_ASSERT(type == at::kFloat || type == at::kDouble, "SpQR group: weights of {}", c10::toString(type));
  LATHE_ASSERT(columns <= device::kSpqrColumns, "SpQR group: {} columns", columns);
  check_matrix(g.weight, type, {rows, columns}, "the weight");
  check_matrix(g.factor, type, {columns, columns}, "the factor");
  check_matrix(g.codes, at::kByte, {rows, columns}, "codes");
  check_matrix(g.errors, type, {rows, columns}, "errors");
  check_matrix(g.kept, type, {rows, columns}, "what is kept");
  for (const at::Tensor* row : {&g.scales, &g.zeros, &g.thresholds}) {
    LATHE_ASSERT(
        row->dim() == 1 && row->size(0) == rows && row->scalar_type() == type && row->is_contiguous(),
        "SpQR group: grids don't fit {} rows", rows);
  }
  if (!g.marked.defined()) return;
  check_matrix(g.marked, at::kBool, {rows, columns}, "marks");
  LATHE_ASSERT(g.marked.is_contiguous(), "SpQR group: marks have gaps");
}

template <class T>
SpqrGroup<T> pointers(const SpqrGroupTensors& g, int bits) {
  return {.rows = g.weight.size(0),
          .columns = static_cast<int>(g.weight.size(1)),
          .weight = g.weight.const_data_ptr<T>(),
          .weight_stride = g.weight.stride(0),
          .factor = g.factor.const_data_ptr<T>(),
          .factor_stride = g.factor.stride(0),
          .marked = g.marked.defined() ? g.marked.const_data_ptr<bool>() : nullptr,
          .scales = g.scales.const_data_ptr<T>(),
          .zeros = g.zeros.const_data_ptr<T>(),
          .thresholds = g.thresholds.const_data_ptr<T>(),
          .top = static_cast<T>((1 << bits) - 1),
          .codes = g.codes.data_ptr<uint8_t>(),
          .errors = g.errors.data_ptr<T>(),
          .kept = g.kept.data_ptr<T>(),
          .codes_stride = g.codes.stride(0),
          .errors_stride = g.errors.stride(0),
          .kept_stride = g.kept.stride(0)};
}

}  // namespace

void spqr_group(const SpqrGroupTensors& group, int bits) {
  check(group);
  const bool fp32 = group.weight.scalar_type() == at::kFloat;
  if (group.weight.is_cpu()) {
    return fp32 ? cpu::spqr_group(pointers<float>(group, bits))
                : cpu::spqr_group(pointers<double>(group, bits));
  }
  const c10::DeviceGuard guard(group.weight.device());
  const CudaLibrary& cuda = cuda_library();
  const LatheCudaQueue queue = current_queue(group.weight.device());
  if (fp32) {
    const auto block = pointers<float>(group, bits);
    cuda.check(cuda.spqr_group_f32(queue, &block), "spqr_group");
  } else {
    const auto block = pointers<double>(group, bits);
    cuda.check(cuda.spqr_group_f64(queue, &block), "spqr_group");
  }
}

}  // namespace lathe::kernels
