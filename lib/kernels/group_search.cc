// Checks and dispatch; the loops are in group_search_cpu.cc and cuda/group_search_cuda.cu.
#include "lib/kernels/group_search.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include "lib/base/error.h"
#include "lib/kernels/cuda_library.h"
#include "lib/kernels/group_grid.h"
#include "lib/kernels/group_search_rows.h"

namespace lathe::kernels {

GroupRange search_range(const at::Tensor& weight, const at::Tensor& importance, const Scheme& scheme,
                        DType scale_dtype, int64_t steps, double max_shrink, const at::Tensor& global) {
  const GroupRange range = group_min_max(weight, scheme);  // checks weight and scheme
  LATHE_ASSERT(steps >= 1 && max_shrink >= 0 && max_shrink < 1, "range search: {} steps to {}", steps,
               1 - max_shrink);
  at::Tensor weights_of_columns;
  if (importance.defined()) {
    LATHE_ASSERT(importance.numel() == weight.size(1) && importance.scalar_type() == at::kFloat &&
                     importance.device() == weight.device(),
                 "range search: importance doesn't fit {} columns", weight.size(1));
    weights_of_columns = importance.contiguous();
  }
  LATHE_ASSERT(!scheme.shares_rows(), "range search: {} has rows that share scales", scheme.describe());
  const GroupSearch search{
      .layout = {range.lo.numel(), scheme.group_length(weight.size(1))},
      .grid = grid_under(scheme, scale_dtype, global),
      .groups_per_row = scheme.groups(weight.size(1)),
      .weight = weight.const_data_ptr<float>(),
      .importance = importance.defined() ? weights_of_columns.const_data_ptr<float>() : nullptr,
      .steps = steps,
      .max_shrink = max_shrink,
      .lo = range.lo.data_ptr<float>(),
      .hi = range.hi.data_ptr<float>()};
  if (weight.is_cpu()) {
    cpu::search_ranges(search);
  } else {
    const c10::DeviceGuard guard(weight.device());
    const CudaLibrary& cuda = cuda_library();
    cuda.check(cuda.search_ranges(current_queue(weight.device()), &search), "search_ranges");
  }
  return range;
}

int64_t searched_ranges(const Scheme& scheme, int64_t steps, double max_shrink) {
  if (scheme.type != "int") return steps + 1;
  const double widest = device::widest_factor(grid_of(scheme, DType::F16));
  return steps + 1 + device::steps_up(widest, steps, max_shrink);
}

}  // namespace lathe::kernels
