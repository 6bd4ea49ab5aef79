#include "calib/driver/fold.h"

#include <ATen/ATen.h>

#include "lib/base/error.h"
#include "lib/kernels/dequantize.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

const Linear& producer_linear(const Block& block, const ScaleEdge& edge) {
  for (const Linear& linear : block.linears) {
    if (linear.name == edge.producer) return linear;
  }
  internal_error("fold: block {} has no linear '{}'", block.prefix, edge.producer);
}

const Norm& producer_norm(const Block& block, const ScaleEdge& edge) {
  for (const Norm* norm : block.norms()) {
    if (norm->name == edge.producer) return *norm;
  }
  internal_error("fold: block {} has no norm '{}'", block.prefix, edge.producer);
}

/// Divides the norm's weight, rounds it to its storage type, and returns the scales that this amounts to.
at::Tensor divide_norm(BlockState& state, const ScaleEdge& edge, const at::Tensor& scales) {
  const Norm& norm = producer_norm(*state.block, edge);
  const double plus = norm.one_plus ? 1.0 : 0.0;  // the norm multiplies by weight + plus
  const at::Tensor old_weight = state.weights->norm(norm), old_factor = old_weight + plus;
  const at::Tensor rounded = round_to(old_factor / scales - plus, state.float_dtype);
  // In the type's subnormal range the rounding is coarse but harmless (the quotient is exact); only 0 and Inf
  // lose the channel.
  const at::Tensor factor = rounded + plus;
  const at::Tensor usable = factor.isfinite().logical_and(factor.ne(0));
  const at::Tensor new_weight = at::where(usable, rounded, old_weight);
  state.weights->set_norm(norm, new_weight);
  state.changed[norm.name + ".weight"] = new_weight;
  return at::where(usable, old_factor / (new_weight + plus), at::ones_like(scales));
}

/// A factor for each row of the producer: one outside the edge's rows (q and k in qkv_proj, gate in
/// gate_up_proj).
at::Tensor all_rows(const Linear& linear, const ScaleEdge& edge, const at::Tensor& scales) {
  LATHE_ASSERT(edge.first_row + scales.numel() <= linear.out, "{}: {} scales from row {} on, {} rows",
               linear.name, scales.numel(), edge.first_row, linear.out);
  if (scales.numel() == linear.out) return scales;
  at::Tensor rows = at::ones({linear.out}, scales.options());
  rows.slice(0, edge.first_row, edge.first_row + scales.numel()).copy_(scales);
  return rows;
}

/// A weight times `factors` (which broadcast), in the weight's own memory where nobody else holds it.
at::Tensor multiplied(at::Tensor weight, const at::Tensor& factors) {
  return sole_owner(weight) ? weight.mul_(factors) : weight * factors;
}

/// Divides rows (and their bias) of a linear; solved ones by their scales, kept ones by their values. A
/// solved one's values are made anew only where they are still needed.
void divide_rows(BlockState& state, const ScaleEdge& edge, const at::Tensor& scales) {
  const Linear& linear = producer_linear(*state.block, edge);
  const at::Tensor row_scales = all_rows(linear, edge, scales);
  const auto solved = state.solved.find(linear.name);
  if (solved != state.solved.end()) {
    solved->second.scale_rows(row_scales.reciprocal());
    if (const auto given = state.given.find(linear.name); given != state.given.end())
      given->second = given->second / row_scales.unsqueeze(1).to(given->second.device());
    if (state.weights->holds_weight(linear)) {
      state.weights->drop_weight(linear);
      state.weights->set_weight(linear, kernels::dequantized_weight(solved->second));
    }
  } else {
    const at::Tensor weight =
        round_to(state.weights->weight(linear) / row_scales.unsqueeze(1), state.float_dtype);
    state.weights->set_weight(linear, weight);
    state.changed[linear.name + ".weight"] = weight;
  }
  if (linear.bias) {
    const at::Tensor bias = round_to(state.weights->bias(linear) / row_scales, state.float_dtype);
    state.weights->set_bias(linear, bias);
    state.changed[linear.name + ".bias"] = bias;
  }
}

}  // namespace

at::Tensor after_folds(const at::Tensor& x, const std::vector<at::Tensor>& scales) {
  at::Tensor values = x;
  for (const at::Tensor& each : scales) values = values / each;  // in FP32, as scales are
  return values.to(x.scalar_type());
}

at::Tensor producer_scales(const ScaleEdge& edge, const at::Tensor& scales) {
  if (edge.repeat == 1) return scales;
  return scales.view({-1, edge.repeat, edge.head_dim}).select(1, 0).reshape(-1);
}

at::Tensor apply_fold(BlockState& state, const ScaleEdge& edge, const at::Tensor& scales) {
  at::Tensor effective = scales;
  if (edge.producer_kind == ScaleEdge::Producer::norm) {
    effective = divide_norm(state, edge, scales);
  } else {
    divide_rows(state, edge, producer_scales(edge, scales));
  }
  for (const Linear* consumer : state.block->consumers(edge)) {
    LATHE_ASSERT(!state.solved.contains(consumer->name), "{} is folded after it was solved", consumer->name);
    at::Tensor weight = multiplied(state.weights->take_weight(*consumer), effective);
    if (!state.to_solve.contains(consumer->name)) {
      weight = round_to(weight, state.float_dtype);
      state.changed[consumer->name + ".weight"] = weight;
    }
    state.weights->set_weight(*consumer, weight);
  }
  return effective;
}

}  // namespace lathe
