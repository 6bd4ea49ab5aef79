// Checks, layouts and dispatch; the loops are in transformer_ops_cpu.cc and cuda/transformer_cuda.cu.
#include "lib/kernels/transformer_ops.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include <optional>

#include "lib/base/error.h"
#include "lib/kernels/cuda_library.h"
#include "lib/kernels/transformer_rows.h"
#include "lib/tensor/tensor_view.h"

namespace lathe::kernels {
namespace {

InputType type_of(at::ScalarType type, const char* kernel) {
  switch (type) {
    case at::kFloat:
      return InputType::f32;
    case at::kHalf:
      return InputType::f16;
    case at::kBFloat16:
      return InputType::bf16;
    default:
      internal_error("{}: values of {}", kernel, c10::toString(type));
  }
}

InputType check_values(const at::Tensor& x, const char* kernel) {
  LATHE_ASSERT(x.is_cpu() || x.is_cuda(), "{}: device {}", kernel, x.device().str());
  return type_of(x.scalar_type(), kernel);
}

/// The rows of [..., width], or nothing where they don't lie at one distance from each other. Strides of
/// dimensions of one element say nothing. There is always an answer for a contiguous tensor.
std::optional<RowLayout> rows_of(const at::Tensor& x) {
  const int64_t width = x.size(-1);
  RowLayout layout{x.numel() == 0 ? 0 : x.numel() / width, width, width};
  if (layout.rows == 0) return layout;
  if (width > 1 && x.stride(-1) != 1) return std::nullopt;
  std::optional<int64_t> expected;  // stride of the next dimension outwards
  for (int64_t d = x.dim() - 2; d >= 0; --d) {
    if (x.size(d) == 1) continue;
    if (!expected) expected = layout.stride = x.stride(d);
    if (x.stride(d) != *expected) return std::nullopt;
    *expected *= x.size(d);
  }
  return layout;
}

void check_heads(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines) {
  LATHE_ASSERT(x.dim() == 4 && x.stride(3) == 1 && (x.size(2) == 1 || x.stride(2) == x.size(3)) &&
                   (x.size(0) == 1 || x.size(1) == 1 || x.stride(0) == x.size(1) * x.stride(1)),
               "rotary embedding: expected heads that lie one after the other");
  for (const at::Tensor& table : {cosines, sines}) {
    LATHE_ASSERT(table.dim() == 2 && table.scalar_type() == at::kFloat && table.is_contiguous() &&
                     table.device() == x.device() && table.sizes() == cosines.sizes(),
                 "rotary embedding: expected two contiguous FP32 tables of one shape");
  }
  LATHE_ASSERT(cosines.size(0) == x.size(1), "rotary tables for {} tokens, rows of {}", cosines.size(0),
               x.size(1));
  LATHE_ASSERT(cosines.size(1) % 2 == 0 && cosines.size(1) <= x.size(3),
               "rotary embedding of {} in {} channels", cosines.size(1), x.size(3));
}

/// Nothing where there is no loop of ours.
std::optional<GateFunction> gate_function(Activation activation) {
  using Kind = GateFunction::Kind;
  switch (activation) {
    case Activation::silu:
      return GateFunction{Kind::scaled_silu, 1.0f};
    case Activation::quick_gelu:
      return GateFunction{Kind::scaled_silu, 1.702f};
    case Activation::gelu_tanh:
      return GateFunction{Kind::gelu_tanh};
    case Activation::relu:
      return GateFunction{Kind::relu};
    case Activation::relu2:
      return GateFunction{Kind::relu2};
    case Activation::gelu:
      return std::nullopt;
  }
  internal_error("activation {}", static_cast<int>(activation));
}

bool half_on_cpu(const at::Tensor& x) { return x.is_cpu() && x.scalar_type() != at::kFloat; }

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, bool unit_offset,
                    at::ScalarType result) {
  const InputType type = check_values(x, "RMS norm"), result_type = type_of(result, "RMS norm");
  LATHE_ASSERT(
      weight.dim() == 1 && x.dim() >= 1 && x.size(-1) == weight.size(0) && weight.device() == x.device(),
      "RMS norm of {} on {}, weight of {} values on {}", describe_shape(x.sizes().vec()), x.device().str(),
      weight.numel(), weight.device().str());
  if (half_on_cpu(x)) return rms_norm(x.to(at::kFloat), weight, eps, unit_offset, result);
  if (x.is_cpu() && result != at::kFloat) return rms_norm(x, weight, eps, unit_offset).to(result);
  const at::Tensor rows = rows_of(x) ? x : x.contiguous(), scale = weight.to(at::kFloat).contiguous();
  const RowLayout layout = *rows_of(rows);
  const float offset = unit_offset ? 1.0f : 0.0f;
  at::Tensor y = at::empty(x.sizes(), x.options().dtype(result));
  if (x.is_cpu()) {
    cpu::rms_norm(layout, rows.const_data_ptr<float>(), scale.const_data_ptr<float>(), offset,
                  static_cast<float>(eps), y.data_ptr<float>());
  } else {
    const c10::DeviceGuard guard(x.device());
    const CudaLibrary& cuda = cuda_library();
    cuda.check(cuda.rms_norm(current_queue(x.device()), layout, type, rows.const_data_ptr(),
                             scale.const_data_ptr<float>(), offset, static_cast<float>(eps), result_type,
                             y.data_ptr()),
               "rms_norm");
  }
  return y;
}

void rotate_heads_(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines) {
  const InputType type = check_values(x, "rotary embedding");
  check_heads(x, cosines, sines);
  if (half_on_cpu(x)) {
    const at::Tensor wide =
        x.to(at::kFloat, /*non_blocking=*/false, /*copy=*/false, at::MemoryFormat::Contiguous);
    rotate_heads_(wide, cosines, sines);
    x.copy_(wide);
    return;
  }
  const int64_t stride = x.stride(x.size(1) > 1 ? 1 : 0);
  const HeadLayout layout{x.size(0) * x.size(1), x.size(2), x.size(3), stride, cosines.size(1), x.size(1)};
  if (x.is_cpu()) {
    cpu::rotate_heads(layout, cosines.const_data_ptr<float>(), sines.const_data_ptr<float>(),
                      x.data_ptr<float>());
  } else {
    const c10::DeviceGuard guard(x.device());
    const CudaLibrary& cuda = cuda_library();
    cuda.check(cuda.rotate_heads(current_queue(x.device()), layout, type, cosines.const_data_ptr<float>(),
                                 sines.const_data_ptr<float>(), x.data_ptr()),
               "rotate_heads");
  }
}

at::Tensor gated_product(Activation activation, at::Tensor gate, const at::Tensor& up) {
  const InputType type = check_values(gate, "gated activation");
  LATHE_ASSERT(gate.dim() >= 1 && gate.sizes() == up.sizes() && gate.scalar_type() == up.scalar_type() &&
                   gate.device() == up.device(),
               "a gate and what it gates are tensors of one shape, dtype and device");
  const at::ScalarType dtype = gate.scalar_type();
  const auto function = gate_function(activation);
  if (!function) return at::gelu(gate.to(at::kFloat)).mul_(up.to(at::kFloat)).to(dtype).contiguous();
  if (half_on_cpu(gate)) return gated_product(activation, gate.to(at::kFloat), up.to(at::kFloat)).to(dtype);
  const auto gate_rows = rows_of(gate), up_rows = rows_of(up);
  if (!gate_rows || !up_rows || gate_rows->stride != up_rows->stride)
    return gated_product(activation, gate.contiguous(), up.contiguous());
  at::Tensor out = gate.is_contiguous() ? gate : at::empty(gate.sizes(), gate.options());
  if (gate.is_cpu()) {
    cpu::gated_product(*gate_rows, *function, gate.const_data_ptr<float>(), up.const_data_ptr<float>(),
                       out.data_ptr<float>());
  } else {
    const c10::DeviceGuard guard(gate.device());
    const CudaLibrary& cuda = cuda_library();
    cuda.check(cuda.gated_product(current_queue(gate.device()), *gate_rows, *function, type,
                                  gate.const_data_ptr(), up.const_data_ptr(), out.data_ptr()),
               "gated_product");
  }
  return out;
}

}  // namespace lathe::kernels
