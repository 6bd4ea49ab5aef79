// Checks, allocation and dispatch; the loops are in hqq_cpu.cc and cuda/hqq_cuda.cu.
#include "lib/kernels/hqq.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include <cmath>

#include "lib/base/error.h"
#include "lib/kernels/cuda_library.h"
#include "lib/kernels/hqq_rows.h"

namespace lathe::kernels {
namespace {

device::ScaleType scale_type(DType dtype) {
  if (dtype == DType::F32) return device::ScaleType::f32;
  if (dtype == DType::F16) return device::ScaleType::f16;
  LATHE_ASSERT(dtype == DType::BF16, "hqq: scales of type {}", name_of(dtype));
  return device::ScaleType::bf16;
}

device::HqqSettings settings_of(const Scheme& scheme, DType scale_dtype, const HqqChoice& choice) {
  LATHE_ASSERT(choice.lp_norm > 0 && choice.lp_norm <= 1 && choice.beta > 0 && choice.kappa >= 1,
               "hqq: p {}, beta {}, kappa {}", choice.lp_norm, choice.beta, choice.kappa);
  LATHE_ASSERT(choice.iterations >= 0 && choice.iterations <= device::kHqqMaxIterations, "hqq: {} iterations",
               choice.iterations);
  device::HqqSettings settings;
  settings.qmin = static_cast<float>(scheme.qmin());
  settings.zero_margin = static_cast<float>(scheme.lowest_zero() - scheme.qmin());
  settings.qmax = static_cast<float>(scheme.qmax());
  settings.type = scale_type(scale_dtype);
  settings.real_zero = scheme.real_zero;
  settings.optimise_scale = choice.optimise_scale;
  settings.round_start = choice.round_start;
  settings.early_stop = choice.early_stop;
  settings.iterations = static_cast<int32_t>(choice.iterations);
  settings.exponent = static_cast<float>(choice.lp_norm - 1);
  double beta = choice.beta;
  for (int t = 0; t <= settings.iterations; ++t, beta *= choice.kappa) {
    settings.inverse_beta[t] = static_cast<float>(1 / beta);
    settings.threshold[t] = static_cast<float>(std::pow(beta, 1 / (choice.lp_norm - 2)));
  }
  return settings;
}

void check_groups(const at::Tensor& weight, const at::Tensor& end) {
  LATHE_ASSERT(end.numel() == weight.size(0) && end.scalar_type() == at::kFloat && end.is_contiguous() &&
                   end.device() == weight.device(),
               "hqq: a range is two FP32 values a group");
}

}  // namespace

int64_t hqq_max_iterations() { return device::kHqqMaxIterations; }

HqqResult hqq(const at::Tensor& weight, const GroupRange& range, const Scheme& scheme, DType scale_dtype,
              const HqqChoice& choice) {
  LATHE_ASSERT(weight.dim() == 2 && weight.scalar_type() == at::kFloat && weight.is_contiguous() &&
                   (weight.is_cpu() || weight.is_cuda()),
               "hqq: expected a contiguous FP32 matrix of groups");
  LATHE_ASSERT(!scheme.symmetric && scheme.bits >= 1 && scheme.bits <= 8, "hqq: scheme {}",
               scheme.describe());
  check_groups(weight, range.lo);
  check_groups(weight, range.hi);
  const device::HqqSettings settings = settings_of(scheme, scale_dtype, choice);
  const GroupLayout layout{weight.size(0), weight.size(1)};
  HqqResult result{at::empty(weight.sizes(), weight.options().dtype(at::kChar)),
                   at::empty({layout.groups, 1}, weight.options()),
                   at::empty({layout.groups, 1}, weight.options())};
  const HqqArrays arrays{weight.const_data_ptr<float>(),       range.lo.const_data_ptr<float>(),
                         range.hi.const_data_ptr<float>(),     result.scales.data_ptr<float>(),
                         result.zero_points.data_ptr<float>(), result.codes.data_ptr<int8_t>()};
  if (weight.is_cpu()) {
    cpu::hqq(layout, settings, arrays);
  } else {
    const c10::DeviceGuard guard(weight.device());
    const CudaLibrary& cuda = cuda_library();
    cuda.check(cuda.hqq(current_queue(weight.device()), layout, settings, arrays), "hqq");
  }
  return result;
}

}  // namespace lathe::kernels
