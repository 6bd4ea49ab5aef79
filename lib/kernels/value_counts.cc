// Checks, allocation and dispatch; the loops are in value_counts_cpu.cc and cuda/value_counts_cuda.cu.
#include "lib/kernels/value_counts.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include "lib/base/error.h"
#include "lib/kernels/cuda_library.h"
#include "lib/kernels/matrix_layout.h"
#include "lib/kernels/value_counts_rows.h"

namespace lathe::kernels {
namespace {

void check_counts(const at::Tensor& counts, const at::Tensor& x, at::ScalarType type, int64_t rows,
                  int64_t bins) {
  LATHE_ASSERT(counts.dim() == 2 && counts.size(0) == rows && counts.size(1) == bins &&
                   counts.scalar_type() == type && counts.is_contiguous() && counts.device() == x.device(),
               "value counts don't fit a matrix of {} columns", x.size(1));
}

}  // namespace

int64_t value_bin_count() { return device::bin_count(device::kValueBins); }
int64_t channel_bin_count() { return device::bin_count(device::kChannelBins); }

void add_value_counts(const at::Tensor& x, at::Tensor& counts) {
  const MatrixLayout layout = matrix_layout(x, "value counts");
  check_counts(counts, x, at::kLong, 2, value_bin_count());
  if (x.is_cpu()) return cpu::value_counts(layout, x.const_data_ptr<float>(), counts.data_ptr<int64_t>());
  const c10::DeviceGuard guard(x.device());
  const CudaLibrary& cuda = cuda_library();
  cuda.check(
      cuda.value_counts(current_queue(x.device()), layout, x.const_data_ptr(), counts.data_ptr<int64_t>()),
      "value_counts");
}

void add_channel_value_counts(const at::Tensor& x, at::Tensor& counts) {
  const MatrixLayout layout = matrix_layout(x, "channel value counts");
  check_counts(counts, x, at::kInt, x.size(1), channel_bin_count());
  if (x.is_cpu())
    return cpu::channel_value_counts(layout, x.const_data_ptr<float>(), counts.data_ptr<int32_t>());
  const c10::DeviceGuard guard(x.device());
  const CudaLibrary& cuda = cuda_library();
  cuda.check(cuda.channel_value_counts(current_queue(x.device()), layout, x.const_data_ptr(),
                                       counts.data_ptr<int32_t>()),
             "channel_value_counts");
}

RowExtent row_extent(const at::Tensor& x) {
  const MatrixLayout layout = matrix_layout(x, "row extent");
  RowExtent extent{at::empty({layout.rows}, x.options().dtype(at::kFloat)), {}};
  extent.high = at::empty_like(extent.low);
  float *low = extent.low.data_ptr<float>(), *high = extent.high.data_ptr<float>();
  if (x.is_cpu()) {
    cpu::row_extent(layout, x.const_data_ptr<float>(), low, high);
  } else {
    const c10::DeviceGuard guard(x.device());
    const CudaLibrary& cuda = cuda_library();
    cuda.check(cuda.row_extent(current_queue(x.device()), layout, x.const_data_ptr(), low, high),
               "row_extent");
  }
  return extent;
}

}  // namespace lathe::kernels
