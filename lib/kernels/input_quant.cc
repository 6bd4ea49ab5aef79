// Checks, allocation and dispatch; the loops are in input_quant_cpu.cc and cuda/input_quant_cuda.cu.
#include "lib/kernels/input_quant.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include "lib/base/error.h"
#include "lib/kernels/cuda_library.h"
#include "lib/kernels/group_quant.h"
#include "lib/kernels/input_quant_rows.h"

namespace lathe::kernels {
namespace {

/// The grid of each row's own values.
GroupParams dynamic_params(const at::Tensor& rows, const ActivationScheme& scheme) {
  const Scheme as_rows{.type = "int", .bits = scheme.bits, .group_size = -1, .symmetric = scheme.symmetric};
  return group_params(group_min_max(rows, as_rows), as_rows, DType::F32);
}

GroupParams static_params(const InputQuantizer& quantizer, const at::TensorOptions& options) {
  GroupParams params{at::full({1, 1}, quantizer.scale, options), {}};
  if (quantizer.zero_point != 0)
    params.zero_points = at::full({1, 1}, quantizer.zero_point, options.dtype(at::kChar));
  return params;
}

void run(const InputRows& layout, const at::Tensor& x, const at::Tensor& y) {
  if (x.is_cpu()) return cpu::fake_quantize_input(layout, x.const_data_ptr<float>(), y.data_ptr<float>());
  const c10::DeviceGuard guard(x.device());
  const CudaLibrary& cuda = cuda_library();
  cuda.check(cuda.fake_quantize_input(current_queue(x.device()), layout, x.const_data_ptr<float>(),
                                      y.data_ptr<float>()),
             "fake_quantize_input");
}

}  // namespace

at::Tensor fake_quantize_input(const at::Tensor& x, const InputQuantizer& quantizer) {
  const ActivationScheme& scheme = quantizer.scheme;
  const auto problem = scheme.problem();
  LATHE_ASSERT(!problem, "{}", *problem);
  LATHE_ASSERT(scheme.dynamic || quantizer.scale > 0, "static scale {}", quantizer.scale);
  if (x.numel() == 0) return x;
  const at::Tensor rows = x.reshape({-1, x.size(-1)}).to(at::kFloat).contiguous();
  const GroupParams params =
      scheme.dynamic ? dynamic_params(rows, scheme) : static_params(quantizer, rows.options());
  at::Tensor y = at::empty_like(rows);
  run({.rows = rows.size(0),
       .width = rows.size(1),
       .qmin = static_cast<float>(scheme.qmin()),
       .qmax = static_cast<float>(scheme.qmax()),
       .scales = params.scales.const_data_ptr<float>(),
       .zeros = params.zero_points.defined() ? params.zero_points.const_data_ptr<int8_t>() : nullptr,
       .shared = !scheme.dynamic},
      rows, y);
  return y.view(x.sizes()).to(x.scalar_type());
}

}  // namespace lathe::kernels
