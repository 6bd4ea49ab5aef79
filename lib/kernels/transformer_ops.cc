// Checks, layouts and dispatch; the loops are in transformer_ops_cpu.cc, ATen's operators below.
#include "lib/kernels/transformer_ops.h"

#include <ATen/ATen.h>

#include <optional>

#include "lib/base/error.h"
#include "lib/kernels/transformer_rows.h"

namespace lathe::kernels {
namespace {

bool on_fast_path(const at::Tensor& x) { return x.is_cpu() && x.scalar_type() == at::kFloat; }

/// The rows of [..., width], or nothing where they don't lie at one distance from each other.
std::optional<RowLayout> rows_of(const at::Tensor& x) {
  const int64_t width = x.size(-1);
  if (x.numel() == 0 || (width > 1 && x.stride(-1) != 1)) return std::nullopt;
  if (x.dim() == 1) return RowLayout{1, width, width};
  for (int64_t d = 0; d + 2 < x.dim(); ++d) {
    if (x.size(d) > 1 && x.stride(d) != x.size(d + 1) * x.stride(d + 1)) return std::nullopt;
  }
  return RowLayout{x.numel() / width, width, x.stride(-2)};
}

at::Tensor rms_norm_by_aten(const at::Tensor& input, const at::Tensor& weight, double eps, bool unit_offset) {
  const at::Tensor x = input.to(at::kFloat), scale = weight.to(at::kFloat);
  const at::Tensor variance = x.square().mean(-1, /*keepdim=*/true);
  return (x * at::rsqrt(variance + eps)).mul_(unit_offset ? scale + 1.0 : scale);
}

void rotate_heads_by_aten(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines) {
  at::Tensor turning = x.slice(-1, 0, cosines.size(1));
  const std::vector<at::Tensor> halves = turning.chunk(2, -1);
  const at::Tensor turned = at::cat({-halves[1], halves[0]}, -1);
  turning.copy_((turning * cosines.unsqueeze(1)).add_(turned * sines.unsqueeze(1)));  // FP32: the tables are
}

void check_heads(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines) {
  LATHE_ASSERT(x.dim() == 4 && x.stride(3) == 1 && (x.size(2) == 1 || x.stride(2) == x.size(3)) &&
                   (x.size(0) == 1 || x.stride(0) == x.size(1) * x.stride(1)),
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

at::Tensor activate(Activation activation, const at::Tensor& x) {
  switch (activation) {
    case Activation::silu:
      return at::silu(x);
    case Activation::gelu:
      return at::gelu(x);
    case Activation::gelu_tanh:
      return at::gelu(x, "tanh");
    case Activation::quick_gelu:
      return x * at::sigmoid(1.702 * x);
    case Activation::relu:
      return at::relu(x);
    case Activation::relu2:
      return at::relu(x).square();
  }
  internal_error("activation {}", static_cast<int>(activation));
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

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, bool unit_offset) {
  LATHE_ASSERT(weight.dim() == 1 && x.dim() >= 1 && x.size(-1) == weight.size(0),
               "RMS norm of {} values, weight of {}", x.dim() >= 1 ? x.size(-1) : 0, weight.numel());
  if (!on_fast_path(x) || !on_fast_path(weight)) return rms_norm_by_aten(x, weight, eps, unit_offset);
  const at::Tensor dense = rows_of(x) ? x : x.contiguous();
  const at::Tensor scale = weight.contiguous();
  at::Tensor y = at::empty(x.sizes(), x.options());
  if (const auto layout = rows_of(dense)) {
    cpu::rms_norm(*layout, dense.const_data_ptr<float>(), scale.const_data_ptr<float>(),
                  unit_offset ? 1.0f : 0.0f, static_cast<float>(eps), y.data_ptr<float>());
  }
  return y;
}

void rotate_heads_(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines) {
  check_heads(x, cosines, sines);
  if (!on_fast_path(x)) return rotate_heads_by_aten(x, cosines, sines);
  const HeadLayout layout{x.size(0) * x.size(1), x.size(2),       x.size(3),
                          x.stride(1),           cosines.size(1), x.size(1)};
  cpu::rotate_heads(layout, cosines.const_data_ptr<float>(), sines.const_data_ptr<float>(),
                    x.data_ptr<float>());
}

at::Tensor gated_product(Activation activation, at::Tensor gate, const at::Tensor& up) {
  LATHE_ASSERT(gate.dim() >= 1 && gate.sizes() == up.sizes() && gate.scalar_type() == up.scalar_type() &&
                   gate.device() == up.device(),
               "a gate and what it gates are tensors of one shape, dtype and device");
  const auto function = gate_function(activation);
  const auto layout = rows_of(gate), up_layout = rows_of(up);
  if (!function || !on_fast_path(gate) || !layout || !up_layout || layout->stride != up_layout->stride) {
    return activate(activation, gate).mul_(up).contiguous();
  }
  at::Tensor out = gate.is_contiguous() ? gate : at::empty(gate.sizes(), gate.options());
  cpu::gated_product(*layout, *function, gate.const_data_ptr<float>(), up.const_data_ptr<float>(),
                     out.data_ptr<float>());
  return out;
}

}  // namespace lathe::kernels
