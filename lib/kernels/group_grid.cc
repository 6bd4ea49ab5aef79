#include "lib/kernels/group_grid.h"

#include <cmath>

#include "lib/base/error.h"

namespace lathe::kernels {

device::Minifloat minifloat_of(const FloatFormat& format) {
  int32_t specials = format.sign();
  if (format.specials == FloatFormat::Specials::nan) --specials;
  if (format.specials == FloatFormat::Specials::infinity) specials -= 1 << format.mantissa_bits;
  return {format.mantissa_bits,
          format.smallest_exponent(),
          format.bits() - 1,
          static_cast<float>(format.largest),
          static_cast<uint32_t>(std::ldexp(2 - format.scale_carry, 23)),
          specials};
}

device::Grid grid_of(const Scheme& scheme, DType scale_dtype) {
  device::Grid grid{static_cast<float>(scheme.qmin()), static_cast<float>(scheme.qmax()), scheme.symmetric,
                    device::ScaleType::f32};
  grid.zero_margin = static_cast<float>(scheme.lowest_zero() - scheme.qmin());
  if (const FloatGridType* const floats = scheme.float_grid()) grid.number = minifloat_of(floats->number);
  switch (scheme.scale_type(scale_dtype)) {
    case DType::F32:
      break;
    case DType::F16:
      grid.scale_type = device::ScaleType::f16;
      break;
    case DType::BF16:
      grid.scale_type = device::ScaleType::bf16;
      break;
    case DType::F8_E4M3:
      grid.scale_type = device::ScaleType::e4m3;
      break;
    case DType::F8_E8M0:
      grid.scale_type = device::ScaleType::e8m0;
      break;
    default:
      internal_error("group quantisation: scales of type {}", name_of(scale_dtype));
  }
  return grid;
}

device::Grid grid_under(const Scheme& scheme, DType scale_dtype, const at::Tensor& global) {
  device::Grid grid = grid_of(scheme, scale_dtype);
  LATHE_ASSERT(global.defined() == scheme.has_global_scale(), "{}: global scale and scheme differ",
               scheme.describe());
  if (!global.defined()) return grid;
  LATHE_ASSERT(global.dim() == 0 && global.scalar_type() == at::kFloat, "a global scale is a Float scalar");
  grid.global = global.const_data_ptr<float>();
  return grid;
}

}  // namespace lathe::kernels
