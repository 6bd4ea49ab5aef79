#include "formats/targets/stored_scales.h"

#include <ATen/ATen.h>

#include "lib/base/error.h"
#include "lib/tensor/aten.h"

namespace lathe {

at::Tensor stored_scales(const std::string& linear, const at::Tensor& scales, DType dtype) {
  const at::Tensor exact = scales.cpu();
  const at::Tensor stored = exact.to(to_scalar_type(dtype)).contiguous();
  LATHE_ASSERT(stored.to(at::kFloat).equal(exact), "{}: scales that {} can't hold", linear, name_of(dtype));
  return stored;
}

at::Tensor stored_input_scale(const std::string& linear, float scale, DType dtype) {
  const at::Tensor stored = at::full({1}, scale, at::kFloat).to(to_scalar_type(dtype));
  if (stored.item<float>() == scale) return stored;
  user_error(
      "{}: the scale of its input, {}, is no {} number, as the weight's scales are: expected one type for "
      "both",
      linear, scale, name_of(dtype));
}

}  // namespace lathe
