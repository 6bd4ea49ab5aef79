// Checks, allocation and dispatch; the loops are in group_quant_cpu.cc and cuda/group_quant_cuda.cu.
#include "lib/kernels/group_quant.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include <limits>

#include "lib/base/error.h"
#include "lib/kernels/cuda_library.h"
#include "lib/kernels/group_grid.h"
#include "lib/kernels/group_quant_rows.h"

namespace lathe::kernels {
namespace {

void check_matrix(const at::Tensor& matrix, at::ScalarType type, const Scheme& scheme) {
  LATHE_ASSERT(matrix.dim() == 2 && matrix.scalar_type() == type && matrix.is_contiguous(),
               "group quantisation: expected a contiguous matrix of {}", c10::toString(type));
  LATHE_ASSERT(matrix.is_cpu() || matrix.is_cuda(), "group quantisation: device {}", matrix.device().str());
  const auto problem = scheme.problem(matrix.size(1));
  LATHE_ASSERT(!problem, "group quantisation: {}", *problem);
}

GroupLayout layout_of(const at::Tensor& matrix, const Scheme& scheme) {
  return {matrix.size(0) * scheme.groups(matrix.size(1)), scheme.group_length(matrix.size(1))};
}

void check_params(const GroupParams& params, const at::Tensor& matrix, const Scheme& scheme) {
  const std::vector<int64_t> shape = {matrix.size(0), scheme.groups(matrix.size(1))};
  LATHE_ASSERT(params.scales.sizes() == shape && params.scales.scalar_type() == at::kFloat &&
                   params.scales.is_contiguous() && params.scales.device() == matrix.device(),
               "group quantisation: scales don't fit the matrix");
  LATHE_ASSERT(params.zero_points.defined() != scheme.symmetric,
               "group quantisation: zero points and scheme differ");
  if (scheme.symmetric) return;
  LATHE_ASSERT(params.zero_points.sizes() == shape && params.zero_points.scalar_type() == at::kChar &&
                   params.zero_points.is_contiguous() && params.zero_points.device() == matrix.device(),
               "group quantisation: zero points don't fit the matrix");
}

/// The grid of codes under those parameters, whose global scale the caller holds on the matrix's device.
device::Grid grid_of_codes(const Scheme& scheme, const at::Tensor& global) {
  device::Grid grid = grid_of(scheme, DType::F32);
  if (global.defined()) grid.global = global.const_data_ptr<float>();
  return grid;
}

at::Tensor global_beside(const at::Tensor& matrix, const GroupParams& params) {
  return params.global.defined() ? params.global.to(matrix.options()) : params.global;
}

int8_t* zeros_of(const GroupParams& params) {
  return params.zero_points.defined() ? params.zero_points.data_ptr<int8_t>() : nullptr;
}

}  // namespace

at::Tensor steps_of(const GroupParams& params) {
  return params.global.defined() ? params.scales * params.global : params.scales;
}

GroupRange group_min_max(const at::Tensor& weight, const Scheme& scheme) {
  check_matrix(weight, at::kFloat, scheme);
  const GroupLayout layout = layout_of(weight, scheme);
  const int64_t groups = scheme.groups(weight.size(1));
  const GroupRange range{at::empty({weight.size(0), groups}, weight.options()),
                         at::empty({weight.size(0), groups}, weight.options())};
  const float* w = weight.const_data_ptr<float>();
  float *lo = range.lo.data_ptr<float>(), *hi = range.hi.data_ptr<float>();
  if (weight.is_cpu()) {
    cpu::min_max(layout, w, lo, hi);
  } else {
    const c10::DeviceGuard guard(weight.device());
    const CudaLibrary& cuda = cuda_library();
    cuda.check(cuda.group_min_max(current_queue(weight.device()), layout, w, lo, hi), "group_min_max");
  }
  return range;
}

at::Tensor global_scale(const at::Tensor& largest) {
  const at::Tensor exact =
      (largest / (kE2M1.largest * kE4M3.largest)).clamp_min(std::numeric_limits<float>::min());
  return exact.reciprocal().reciprocal();
}

GroupRange shared_range(const GroupRange& range, const Scheme& scheme) {
  const at::Tensor own = at::maximum(range.lo.abs(), range.hi.abs());  // keeps a NaN
  const int64_t rows = own.size(0), block = scheme.per_tensor() ? rows : scheme.rows;
  const int64_t blocks = (rows + block - 1) / block;
  at::Tensor padded = own;
  if (blocks * block != rows) padded = at::constant_pad_nd(own, {0, 0, 0, blocks * block - rows}, 0);
  const at::Tensor widest =
      padded.view({blocks, block, -1}).amax(1).repeat_interleave(block, 0).slice(0, 0, rows);
  return {-widest, widest.contiguous()};
}

at::Tensor one_row_each(const at::Tensor& scales, const Scheme& scheme) {
  if (!scheme.shares_rows()) return scales;
  return scales.slice(0, 0, std::nullopt, scheme.per_tensor() ? scales.size(0) : scheme.rows).contiguous();
}

GroupParams group_params(const GroupRange& range, const Scheme& scheme, DType scale_dtype,
                         const at::Tensor& global) {
  const at::Tensor low = range.lo.contiguous(), high = range.hi.contiguous();
  LATHE_ASSERT(low.dim() == 2 && low.sizes() == high.sizes() && low.device() == high.device() &&
                   low.scalar_type() == at::kFloat && high.scalar_type() == at::kFloat,
               "group quantisation: a range is two FP32 matrices of one shape");
  const device::Grid grid = grid_under(scheme, scale_dtype, global);
  GroupParams params{at::empty_like(low), {}, global};
  if (!scheme.symmetric) params.zero_points = at::empty(low.sizes(), low.options().dtype(at::kChar));
  const GroupLayout layout{low.numel(), 1};
  const float *lo = low.const_data_ptr<float>(), *hi = high.const_data_ptr<float>();
  float* scales = params.scales.data_ptr<float>();
  if (low.is_cpu()) {
    cpu::params(layout, grid, lo, hi, scales, zeros_of(params));
  } else {
    const c10::DeviceGuard guard(low.device());
    const CudaLibrary& cuda = cuda_library();
    cuda.check(cuda.group_params(current_queue(low.device()), layout, grid, lo, hi, scales, zeros_of(params)),
               "group_params");
  }
  return params;
}

at::Tensor group_encode(const at::Tensor& weight, const GroupParams& params, const Scheme& scheme) {
  check_matrix(weight, at::kFloat, scheme);
  check_params(params, weight, scheme);
  const GroupLayout layout = layout_of(weight, scheme);
  const at::Tensor global = global_beside(weight, params);
  const device::Grid grid = grid_of_codes(scheme, global);
  at::Tensor codes = at::empty(weight.sizes(), weight.options().dtype(at::kChar));
  const float *w = weight.const_data_ptr<float>(), *scales = params.scales.const_data_ptr<float>();
  int8_t* out = codes.data_ptr<int8_t>();
  if (weight.is_cpu()) {
    cpu::encode(layout, grid, w, scales, zeros_of(params), out);
  } else {
    const c10::DeviceGuard guard(weight.device());
    const CudaLibrary& cuda = cuda_library();
    cuda.check(
        cuda.group_encode(current_queue(weight.device()), layout, grid, w, scales, zeros_of(params), out),
        "group_encode");
  }
  return codes;
}

at::Tensor group_fake_quantize(const at::Tensor& weight, const GroupParams& params, const Scheme& scheme) {
  check_matrix(weight, at::kFloat, scheme);
  check_params(params, weight, scheme);
  const GroupLayout layout = layout_of(weight, scheme);
  const at::Tensor global = global_beside(weight, params);
  const device::Grid grid = grid_of_codes(scheme, global);
  at::Tensor values = at::empty_like(weight);
  const float *w = weight.const_data_ptr<float>(), *scales = params.scales.const_data_ptr<float>();
  float* out = values.data_ptr<float>();
  if (weight.is_cpu()) {
    cpu::fake_quantize(layout, grid, w, scales, zeros_of(params), out);
  } else {
    const c10::DeviceGuard guard(weight.device());
    const CudaLibrary& cuda = cuda_library();
    cuda.check(cuda.group_fake_quantize(current_queue(weight.device()), layout, grid, w, scales,
                                        zeros_of(params), out),
               "group_fake_quantize");
  }
  return values;
}

}  // namespace lathe::kernels
