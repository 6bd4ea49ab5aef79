// Checks, allocation and dispatch; the loops are in input_quant_cpu.cc and cuda/input_quant_cuda.cu.
#include "lib/kernels/input_quant.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include "lib/base/error.h"
#include "lib/kernels/cuda_library.h"
#include "lib/kernels/group_grid.h"
#include "lib/kernels/group_quant.h"
#include "lib/kernels/input_quant_rows.h"
#include "lib/numeric/hadamard.h"

namespace lathe::kernels {
namespace {

/// Rows of values with one scale each, and these scales: those of tokens, or of their groups. A dynamic
/// grid's are of each row's own values.
struct Rows {
  at::Tensor values;  // Float, contiguous
  GroupParams params;
};

Rows dynamic_rows(const at::Tensor& tokens, const InputQuantizer& quantizer) {
  const Scheme grid = quantizer.scheme.as_rows();
  at::Tensor global;
  if (grid.has_global_scale()) global = at::full({}, quantizer.scale, tokens.options());
  GroupParams params = group_params(group_min_max(tokens, grid), grid, DType::F32, global);
  if (global.defined()) params.scales = params.scales * global;
  return {tokens.view({-1, grid.group_length(tokens.size(1))}), std::move(params)};
}

Rows static_rows(const at::Tensor& tokens, const InputQuantizer& quantizer) {
  GroupParams params{at::full({1, 1}, quantizer.scale, tokens.options()), {}, {}};
  if (quantizer.zero_point != 0)
    params.zero_points = at::full({1, 1}, quantizer.zero_point, tokens.options().dtype(at::kChar));
  return {tokens, std::move(params)};
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
  LATHE_ASSERT(!scheme.calibrated() || quantizer.scale > 0, "static scale {}", quantizer.scale);
  if (x.numel() == 0) return x;
  const int64_t block = quantizer.hadamard;
  const at::Tensor flat = x.reshape({-1, x.size(-1)});
  const at::Tensor tokens = block > 0 ? hadamard_blocks(flat, block) : flat.to(at::kFloat).contiguous();
  const Rows rows = scheme.dynamic ? dynamic_rows(tokens, quantizer) : static_rows(tokens, quantizer);
  const at::Tensor& zeros = rows.params.zero_points;
  const FloatGridType* const floats = scheme.float_grid();
  at::Tensor y = at::empty_like(rows.values);
  run({.rows = rows.values.size(0),
       .width = rows.values.size(1),
       .qmin = static_cast<float>(scheme.qmin()),
       .qmax = static_cast<float>(scheme.qmax()),
       .scales = rows.params.scales.const_data_ptr<float>(),
       .zeros = zeros.defined() ? zeros.const_data_ptr<int8_t>() : nullptr,
       .shared = !scheme.dynamic,
       .number = floats == nullptr ? device::Minifloat{} : minifloat_of(floats->number)},
      rows.values, y);
  y = y.view(x.sizes());
  return (block > 0 ? hadamard_blocks_of(y, block) : y).to(x.scalar_type());
}

}  // namespace lathe::kernels
