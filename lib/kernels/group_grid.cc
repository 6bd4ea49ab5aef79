#include "lib/kernels/group_grid.h"

#include "lib/base/error.h"

namespace lathe::kernels {

device::Grid grid_of(const Scheme& scheme, DType scale_dtype) {
  device::Grid grid{static_cast<float>(scheme.qmin()), static_cast<float>(scheme.qmax()), scheme.symmetric,
                    device::ScaleType::f32};
  switch (scale_dtype) {
    case DType::F32:
      break;
    case DType::F16:
      grid.scale_type = device::ScaleType::f16;
      break;
    case DType::BF16:
      grid.scale_type = device::ScaleType::bf16;
      break;
    default:
      internal_error("group quantisation: scales of type {}", name_of(scale_dtype));
  }
  return grid;
}

}  // namespace lathe::kernels
