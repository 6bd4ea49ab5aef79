#include "lib/kernels/input_overflow.h"

#include <ATen/ATen.h>

#include <cmath>

#include "lib/base/error.h"
#include "lib/numeric/hadamard.h"

namespace lathe::kernels {

InputReach input_reach(const InputQuantizer& quantizer) {
  const ActivationScheme& scheme = quantizer.scheme;
  LATHE_ASSERT(!scheme.dynamic, "{}: has no reach of its own", scheme.describe());
  double lowest = scheme.qmin() - quantizer.zero_point - 0.5;
  double largest = scheme.qmax() - quantizer.zero_point + 0.5;
  if (const FloatGridType* const grid = scheme.float_grid()) {
    const double last = grid->number.largest;
    largest = last + std::ldexp(1.0, std::ilogb(last) - grid->number.mantissa_bits - 1);
    lowest = -largest;
  }
  return {static_cast<float>(quantizer.scale * lowest), static_cast<float>(quantizer.scale * largest)};
}

at::Tensor count_overflow(const at::Tensor& x, const InputQuantizer& quantizer) {
  const InputReach reach = input_reach(quantizer);
  at::Tensor values = x.to(at::kFloat);
  if (quantizer.hadamard > 0 && x.numel() > 0)
    values = hadamard_blocks(values.reshape({-1, x.size(-1)}), quantizer.hadamard);
  return values.gt(reach.largest).logical_or_(values.lt(reach.lowest)).sum();
}

}  // namespace lathe::kernels
