#include "calib/driver/fold.h"

#include <ATen/ATen.h>

#include "lib/base/error.h"

namespace lathe {
namespace {

const Linear& producer_linear(const Block& block, const ScaleEdge& edge) {
  for (const Linear& linear : block.linears) {
    if (linear.name == edge.producer) return linear;
  }
  internal_error("fold: block {} has no linear '{}'", block.prefix, edge.producer);
}

const Norm& producer_norm(const Block& block, const ScaleEdge& edge) {
  for (const Norm* norm : {&block.attention_norm, &block.mlp_norm}) {
    if (norm->name == edge.producer) return *norm;
  }
  internal_error("fold: block {} has no norm '{}'", block.prefix, edge.producer);
}

/// Divides the norm's weight, rounds it to its storage type, and returns the scales that this amounts to.
at::Tensor divide_norm(BlockState& state, const ScaleEdge& edge, const at::Tensor& scales) {
  const Norm& norm = producer_norm(*state.block, edge);
  const at::Tensor old_weight = state.weights->norm(norm);
  const at::Tensor rounded = round_to(old_weight / scales, state.float_dtype);
  // In the type's subnormal range the rounding is coarse but harmless (the quotient is exact); only 0 and Inf
  // lose the channel.
  const at::Tensor usable = rounded.isfinite().logical_and(rounded.ne(0));
  const at::Tensor new_weight = at::where(usable, rounded, old_weight);
  state.weights->set_norm(norm, new_weight);
  state.changed[norm.name + ".weight"] = new_weight;
  return at::where(usable, old_weight / new_weight, at::ones_like(scales));
}

/// Divides the rows (and bias) of a linear; solved ones by their scales, kept ones by their values.
void divide_rows(BlockState& state, const ScaleEdge& edge, const at::Tensor& row_scales) {
  const Linear& linear = producer_linear(*state.block, edge);
  const auto solved = state.solved.find(linear.name);
  if (solved != state.solved.end()) {
    solved->second.scale_rows(row_scales.reciprocal());
    state.weights->set_weight(linear, solved->second.dequantize());
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
  for (const Linear* consumer : state.block->reading(edge.slot)) {
    LATHE_ASSERT(!state.solved.contains(consumer->name), "{} is folded after it was solved", consumer->name);
    at::Tensor weight = state.weights->weight(*consumer) * effective;
    if (!state.to_solve.contains(consumer->name)) {
      weight = round_to(weight, state.float_dtype);
      state.changed[consumer->name + ".weight"] = weight;
    }
    state.weights->set_weight(*consumer, weight);
  }
  return effective;
}

}  // namespace lathe
