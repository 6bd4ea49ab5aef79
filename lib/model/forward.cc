#include "lib/model/forward.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "lib/base/error.h"
#include "lib/kernels/transformer_ops.h"
#include "lib/model/activation.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

using kernels::rms_norm;

at::Tensor apply(const BlockWeights& weights, const Linear& linear, const at::Tensor& x) {
  const at::Tensor weight = weights.compute_weight(linear);
  return at::linear(x.to(weight.scalar_type()), weight, weights.compute_bias(linear));
}

// A residual step: FP32 hidden states plus what a linear puts out in the compute dtype.
at::Tensor add_residual(const at::Tensor& hidden, at::Tensor out) {
  return out.scalar_type() == hidden.scalar_type() ? out.add_(hidden) : hidden + out;
}

const Linear& linear_of(const Block& block, LinearRole role) {
  const Linear* linear = block.find(role);
  LATHE_ASSERT(linear != nullptr, "{} has no {}", block.prefix, name_of(role));
  return *linear;
}

// Token i sees the `window` tokens i - window + 1 .. i: true where it may look, [s, s].
at::Tensor window_mask(int64_t seq, int64_t window, c10::Device device) {
  const at::Tensor all = at::ones({seq, seq}, at::TensorOptions().dtype(at::kBool).device(device));
  return all.tril().triu(1 - window);
}

// [b, kv_heads, s, d] -> [b, kv_heads * repeat, s, d], each head `repeat` times in a row.
at::Tensor repeat_heads(const at::Tensor& x, int64_t repeat) {
  const int64_t b = x.size(0), heads = x.size(1), s = x.size(2), d = x.size(3);
  return x.unsqueeze(2).expand({b, heads, repeat, s, d}).reshape({b, heads * repeat, s, d});
}

// On the CPU shared KV heads are read in place: as fast as copies on 512 tokens, 10 % faster with a mask on
// 1,024. Of CUDA's kernels with O(s) memory, flash attention does so, too, but takes neither FP32 nor a mask;
// the others want one KV head a query head.
at::Tensor attend(const at::Tensor& q, at::Tensor k, at::Tensor v, std::optional<int64_t> window) {
  const int64_t seq = q.size(2), repeat = q.size(1) / k.size(1);
  const bool masked = window && *window < seq;
  const bool flash = !masked && q.scalar_type() != at::kFloat;
  const bool in_place = repeat > 1 && (q.is_cpu() || flash);
  if (repeat > 1 && !in_place) {
    k = repeat_heads(k, repeat);
    v = repeat_heads(v, repeat);
  }
  std::optional<at::Tensor> mask;
  if (masked) mask = window_mask(seq, *window, q.device());
  return at::scaled_dot_product_attention(q, k, v, mask, /*dropout_p=*/0.0, /*is_causal=*/!masked,
                                          /*scale=*/std::nullopt, /*enable_gqa=*/in_place);
}

}  // namespace

BlockForward::BlockForward(const ModelConfig& config, const Block& block, const BlockWeights& weights,
                           const RopeTables& rope)
    : config_(config), block_(block), weights_(weights), rope_(rope) {}

at::Tensor BlockForward::attention_in(const at::Tensor& hidden) const {
  const at::NoGradGuard no_grad;
  return rms_norm(hidden, weights_.norm(block_.attention_norm), config_.rms_norm_eps)
      .to(to_scalar_type(weights_.compute_dtype()));
}

at::Tensor BlockForward::attention_out(const at::Tensor& attention_in) const {
  const at::NoGradGuard no_grad;
  const int64_t batch = attention_in.size(0), seq = attention_in.size(1);
  LATHE_ASSERT(rope_.cos.size(0) == seq, "rotary tables for {} tokens, rows of {}", rope_.cos.size(0), seq);
  const auto project = [&](LinearRole role, const Norm& norm) {
    const at::Tensor x =
        apply(weights_, linear_of(block_, role), attention_in).view({batch, seq, -1, config_.head_dim});
    return norm.name.empty() ? x : rms_norm(x, weights_.norm(norm), config_.rms_norm_eps);
  };
  const at::Tensor v = project(LinearRole::v_proj, Norm{});
  const auto turned = [&](LinearRole role, const Norm& norm) {
    const at::Tensor x = project(role, norm);  // FP32 where it is normed
    kernels::rotate_heads_(x, rope_.cos, rope_.sin);
    return x.to(v.scalar_type()).transpose(1, 2);
  };
  const at::Tensor q = turned(LinearRole::q_proj, block_.q_norm);
  const at::Tensor k = turned(LinearRole::k_proj, block_.k_norm);
  const at::Tensor out = attend(q, k, v.transpose(1, 2), block_.sliding_window);
  return out.transpose(1, 2).reshape({batch, seq, -1});
}

at::Tensor BlockForward::add_attention(const at::Tensor& hidden, const at::Tensor& attention_out) const {
  const at::NoGradGuard no_grad;
  return add_residual(hidden, apply(weights_, linear_of(block_, LinearRole::o_proj), attention_out));
}

at::Tensor BlockForward::mlp_in(const at::Tensor& hidden) const {
  const at::NoGradGuard no_grad;
  return rms_norm(hidden, weights_.norm(block_.mlp_norm), config_.rms_norm_eps)
      .to(to_scalar_type(weights_.compute_dtype()));
}

at::Tensor BlockForward::mlp_mid(const at::Tensor& mlp_in) const {
  const at::NoGradGuard no_grad;
  return kernels::gated_product(find_activation(config_.activation),
                                apply(weights_, linear_of(block_, LinearRole::gate_proj), mlp_in),
                                apply(weights_, linear_of(block_, LinearRole::up_proj), mlp_in));
}

at::Tensor BlockForward::add_mlp(const at::Tensor& hidden, const at::Tensor& mlp_mid) const {
  const at::NoGradGuard no_grad;
  return add_residual(hidden, apply(weights_, linear_of(block_, LinearRole::down_proj), mlp_mid));
}

at::Tensor BlockForward::run(const at::Tensor& hidden) const {
  const at::Tensor attended = add_attention(hidden, attention_out(attention_in(hidden)));
  return add_mlp(attended, mlp_mid(mlp_in(attended)));
}

at::Tensor embed(const at::Tensor& embedding, const at::Tensor& ids) {
  const at::NoGradGuard no_grad;
  return at::embedding(embedding, ids);
}

at::Tensor head(const ModelGraph& graph, const at::Tensor& norm_weight, const at::Tensor& head_weight,
                const at::Tensor& head_bias, const at::Tensor& hidden) {
  const at::NoGradGuard no_grad;
  return at::linear(rms_norm(hidden, norm_weight, graph.config.rms_norm_eps), head_weight, head_bias);
}

}  // namespace lathe
