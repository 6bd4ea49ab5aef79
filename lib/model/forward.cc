#include "lib/model/forward.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "lib/base/error.h"
#include "lib/kernels/input_quant.h"
#include "lib/kernels/kv_cache_quant.h"
#include "lib/kernels/transformer_ops.h"
#include "lib/model/activation.h"
#include "lib/model/attention.h"
#include "lib/model/cached_attention.h"
#include "lib/tensor/aten.h"
#include "lib/tensor/matrix_product.h"

namespace lathe {
namespace {

// A residual step: FP32 hidden states plus what a linear or a norm puts out, which is used up.
at::Tensor add_residual(const at::Tensor& hidden, at::Tensor out) {
  return out.scalar_type() == hidden.scalar_type() ? out.add_(hidden) : hidden + out;
}

const Linear& linear_of(const Block& block, LinearRole role, std::optional<int64_t> expert = std::nullopt) {
  const Linear* linear = block.find(role, expert);
  LATHE_ASSERT(linear != nullptr, "{} has no {}", block.prefix, name_of(role));
  return *linear;
}

at::Tensor softcapped(const at::Tensor& x, std::optional<double> cap) {
  return cap ? (x / *cap).tanh_().mul_(*cap) : x;
}

}  // namespace

Routing::Rows Routing::rows_of(int64_t expert) const {
  const at::Tensor places = experts.eq(expert).nonzero();  // [n, 2]: token, rank
  const at::Tensor tokens = places.select(1, 0), ranks = places.select(1, 1);
  return {tokens.contiguous(), weights.index({tokens, ranks})};
}

Routing::Order Routing::order(int64_t count) const {
  const at::Tensor flat = experts.reshape({-1});
  const at::Tensor places = flat.argsort(/*stable=*/true, /*dim=*/0, /*descending=*/false);
  return {places, at::searchsorted(flat.index_select(0, places), at::arange(count + 1, flat.options()))};
}

std::vector<Routing::Rows> Routing::by_expert(int64_t count) const {
  const Order sorted = order(count);
  const at::Tensor tokens = sorted.places.div(experts.size(1), "floor");
  const at::Tensor sorted_weights = weights.reshape({-1}).index_select(0, sorted.places);
  const at::Tensor begins = sorted.begins.cpu();
  const int64_t* const begin = begins.const_data_ptr<int64_t>();
  std::vector<Rows> rows;
  for (int64_t expert = 0; expert < count; ++expert) {
    const int64_t first = begin[expert], n = begin[expert + 1] - first;
    rows.push_back({tokens.narrow(0, first, n), sorted_weights.narrow(0, first, n)});
  }
  return rows;
}

BlockForward::BlockForward(const ModelConfig& config, const Block& block, const BlockWeights& weights,
                           const RopeTables& rope)
    : config_(config), block_(block), weights_(weights), rope_(rope) {}

at::Tensor BlockForward::normed(const Norm& norm, const at::Tensor& x) const {
  if (norm.name.empty()) return x;
  return kernels::rms_norm(x, weights_.norm(norm), config_.rms_norm_eps, norm.one_plus);
}

at::Tensor BlockForward::linear_input(const Norm& norm, const at::Tensor& hidden) const {
  const at::ScalarType dtype = to_scalar_type(weights_.compute_dtype());
  if (norm.name.empty()) return hidden.to(dtype);
  return kernels::rms_norm(hidden, weights_.norm(norm), config_.rms_norm_eps, norm.one_plus, dtype);
}

at::Tensor BlockForward::apply(const Linear& linear, const at::Tensor& x) const {
  const at::Tensor weight = weights_.compute_weight(linear);
  const InputQuantizer* const quantizer = weights_.input_quantizer(linear);
  if (quantizer != nullptr && watch_) watch_(linear, x, *quantizer);
  const at::Tensor input = quantizer != nullptr ? kernels::fake_quantize_input(x, *quantizer) : x;
  return linear_product(input.to(weight.scalar_type()), weight, weights_.compute_bias(linear));
}

at::Tensor BlockForward::attention_in(const at::Tensor& hidden) const {
  const at::NoGradGuard no_grad;
  return linear_input(block_.attention_norm, hidden);
}

/// q, k and v before norms and rotation, [b, s, heads * head_dim] each. Without `queries` q is undefined
/// where it is a linear of its own.
std::vector<at::Tensor> BlockForward::project(const at::Tensor& attention_in, bool queries) const {
  const int64_t kv = config_.num_kv_heads * config_.head_dim, q = config_.num_heads * config_.head_dim;
  if (const Linear* fused = block_.find(LinearRole::qkv_proj)) {
    return apply(*fused, attention_in).split_with_sizes({q, kv, kv}, -1);
  }
  std::vector<at::Tensor> parts;
  for (const LinearRole role : {LinearRole::q_proj, LinearRole::k_proj, LinearRole::v_proj}) {
    const bool wanted = queries || role != LinearRole::q_proj;
    parts.push_back(wanted ? apply(linear_of(block_, role), attention_in) : at::Tensor());
  }
  return parts;
}

/// [b, s, heads, head_dim]. A norm's width says whether it is over one head's channels or over all. What is
/// normed is FP32.
at::Tensor BlockForward::heads(const Norm& norm, at::Tensor x) const {
  const int64_t batch = x.size(0), seq = x.size(1);
  if (!norm.name.empty()) x = normed(norm, x.reshape({batch, seq, -1, norm.width}));
  if (block_.qkv_clip) x = x.clamp(-*block_.qkv_clip, *block_.qkv_clip);
  return x.view({batch, seq, -1, config_.head_dim});
}

/// [b, heads, s, head_dim] in the dtype of `projected`.
at::Tensor BlockForward::turned_heads(const Norm& norm, const at::Tensor& projected) const {
  const int64_t seq = projected.size(1);
  LATHE_ASSERT(rope_.cos.size(0) == seq, "rotary tables for {} tokens, rows of {}", rope_.cos.size(0), seq);
  const at::ScalarType dtype = projected.scalar_type();
  return rotated(heads(norm, projected)).to(dtype).transpose(1, 2);
}

/// x [b, s, heads, head_dim], in place.
at::Tensor BlockForward::rotated(const at::Tensor& x) const {
  kernels::rotate_heads_(x, block_.local_rope ? rope_.local_cos : rope_.cos,
                         block_.local_rope ? rope_.local_sin : rope_.sin);
  return x;
}

std::pair<at::Tensor, at::Tensor> BlockForward::keys_and_values(const at::Tensor& attention_in) const {
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> qkv = project(attention_in, /*queries=*/false);
  return {turned_heads(block_.k_norm, qkv[1]), heads(Norm{}, qkv[2]).transpose(1, 2)};
}

AttentionInputs BlockForward::attention_inputs(const at::Tensor& attention_in) const {
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> qkv = project(attention_in, /*queries=*/true);
  const at::Tensor before = heads(block_.k_norm, qkv[1]).to(at::kFloat).clone();
  return {turned_heads(block_.q_norm, qkv[0]).to(at::kFloat), rotated(before.clone()).transpose(1, 2),
          heads(Norm{}, qkv[2]).transpose(1, 2).to(at::kFloat), before};
}

at::Tensor BlockForward::attention_out(const at::Tensor& attention_in) const {
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> qkv = project(attention_in, /*queries=*/true);
  const KvCacheQuantizer* const cache = weights_.kv_cache();
  if (cache != nullptr && cache->scheme.low_bit()) return attention_to_cache(qkv, *cache);
  const at::Tensor q = turned_heads(block_.q_norm, qkv[0]);
  at::Tensor k = turned_heads(block_.k_norm, qkv[1]), v = heads(Norm{}, qkv[2]).transpose(1, 2);
  if (cache != nullptr) {
    k = kernels::fake_quantize_cache(k, cache->scheme, cache->k_scales);
    v = kernels::fake_quantize_cache(v, cache->scheme, cache->v_scales);
  }
  const at::Tensor out =
      attend(q, k, v, {block_.attention_scale, block_.sliding_window, block_.attention_softcap});
  return out.transpose(1, 2).reshape({attention_in.size(0), attention_in.size(1), -1});
}

/// In FP32, as is what an engine's FP16 numbers are multiplied in.
at::Tensor BlockForward::attention_to_cache(const std::vector<at::Tensor>& qkv,
                                            const KvCacheQuantizer& cache) const {
  const at::ScalarType dtype = qkv[0].scalar_type();
  const auto kept = [](const at::Tensor& x) { return x.to(at::kHalf).to(at::kFloat); };
  const auto by_head = [](const at::Tensor& x) { return x.transpose(1, 2); };
  const at::Tensor q = turned_heads(block_.q_norm, qkv[0]).to(at::kFloat);
  at::Tensor k = heads(block_.k_norm, qkv[1]).to(at::kFloat);
  const at::Tensor v = heads(Norm{}, qkv[2]).to(at::kFloat);
  CachedSide keys;
  if (kernels::rounds_rotated_keys(cache.scheme)) {
    k = rotated(k);
    keys = {kept(k), kernels::round_cached_keys(k, cache)};
  } else {
    keys = {rotated(kept(k)), rotated(kernels::round_cached_keys(k, cache))};
  }
  const at::Tensor out =
      attend_cached(q, {by_head(keys.kept), by_head(keys.rounded)},
                    {by_head(kept(v)), by_head(kernels::round_cached_values(v, cache))}, cache.scheme,
                    {block_.attention_scale, block_.sliding_window, block_.attention_softcap});
  return out.transpose(1, 2).reshape({q.size(0), q.size(2), -1}).to(dtype);
}

at::Tensor BlockForward::add_attention(const at::Tensor& hidden, const at::Tensor& attention_out) const {
  const at::NoGradGuard no_grad;
  const at::Tensor out = apply(linear_of(block_, LinearRole::o_proj), attention_out);
  return add_residual(hidden, normed(block_.attention_out_norm, out));
}

at::Tensor BlockForward::mlp_in(const at::Tensor& hidden) const {
  const at::NoGradGuard no_grad;
  return linear_input(block_.mlp_norm, hidden);
}

/// act(gate(x)) * up(x), of the dense MLP, the shared expert or a routed one.
at::Tensor BlockForward::gated(std::optional<int64_t> expert, const at::Tensor& x) const {
  const kernels::Activation activation = find_activation(config_.activation);
  if (const Linear* fused = block_.find(LinearRole::gate_up_proj, expert)) {
    const std::vector<at::Tensor> halves = apply(*fused, x).chunk(2, -1);
    return kernels::gated_product(activation, halves[0], halves[1]);
  }
  return kernels::gated_product(activation, apply(linear_of(block_, LinearRole::gate_proj, expert), x),
                                apply(linear_of(block_, LinearRole::up_proj, expert), x));
}

at::Tensor BlockForward::mlp_mid(const at::Tensor& mlp_in) const {
  const at::NoGradGuard no_grad;
  return gated(std::nullopt, mlp_in);
}

at::Tensor BlockForward::add_mlp(const at::Tensor& hidden, const at::Tensor& mlp_mid) const {
  const at::NoGradGuard no_grad;
  const at::Tensor out = apply(linear_of(block_, LinearRole::down_proj), mlp_mid);
  return add_residual(hidden, normed(block_.mlp_out_norm, out));
}

Routing BlockForward::route(const at::Tensor& mlp_in) const {
  const at::NoGradGuard no_grad;
  LATHE_ASSERT(block_.experts && mlp_in.dim() == 2, "{} routes rows to experts", block_.prefix);
  const at::Tensor logits = apply(linear_of(block_, LinearRole::router), mlp_in);
  auto [weights, experts] = at::softmax(logits.to(at::kFloat), -1).topk(block_.experts->per_token, -1);
  if (block_.experts->normalise) weights = weights / weights.sum(-1, /*keepdim=*/true);
  return {experts, weights};
}

at::Tensor BlockForward::expert_mid(int64_t expert, const at::Tensor& rows) const {
  const at::NoGradGuard no_grad;
  return gated(expert, rows);
}

at::Tensor BlockForward::expert_out(int64_t expert, const at::Tensor& mid) const {
  const at::NoGradGuard no_grad;
  return apply(linear_of(block_, LinearRole::down_proj, expert), mid);
}

at::Tensor BlockForward::shared_out(const at::Tensor& mlp_in, const at::Tensor& mlp_mid) const {
  const at::NoGradGuard no_grad;
  const Linear* gate = block_.find(LinearRole::shared_expert_gate);
  if (gate == nullptr) return at::zeros_like(mlp_in, mlp_in.options().dtype(at::kFloat));
  const at::Tensor out = apply(linear_of(block_, LinearRole::down_proj), mlp_mid).to(at::kFloat);
  return out * at::sigmoid(apply(*gate, mlp_in).to(at::kFloat));
}

at::Tensor BlockForward::add_mlp_out(const at::Tensor& hidden, const at::Tensor& mlp_out) const {
  const at::NoGradGuard no_grad;
  return hidden + normed(block_.mlp_out_norm, mlp_out);
}

at::Tensor BlockForward::experts_out(const at::Tensor& mlp_in, const at::Tensor& shared_mid) const {
  const at::NoGradGuard no_grad;
  return experts_out(mlp_in, shared_mid,
                     route(mlp_in.reshape({-1, mlp_in.size(-1)})).by_expert(block_.experts->count));
}

at::Tensor BlockForward::experts_out(const at::Tensor& mlp_in, const at::Tensor& shared_mid,
                                     const std::vector<Routing::Rows>& routed) const {
  const at::NoGradGuard no_grad;
  LATHE_ASSERT(block_.experts && static_cast<int64_t>(routed.size()) == block_.experts->count,
               "{}: rows for {} experts", block_.prefix, routed.size());
  const at::Tensor rows = mlp_in.reshape({-1, mlp_in.size(-1)});
  at::Tensor out = shared_out(rows, shared_mid.defined() ? shared_mid.flatten(0, -2) : shared_mid);
  for (int64_t expert = 0; expert < block_.experts->count; ++expert) {
    const Routing::Rows& sent = routed[static_cast<size_t>(expert)];
    if (sent.tokens.numel() == 0) continue;
    const at::Tensor made = expert_out(expert, expert_mid(expert, rows.index_select(0, sent.tokens)));
    out.index_add_(0, sent.tokens, made * sent.weights.unsqueeze(1));
  }
  return out.view(mlp_in.sizes());
}

at::Tensor BlockForward::run(const at::Tensor& hidden) const {
  const at::NoGradGuard no_grad;
  const at::Tensor attended = add_attention(hidden, attention_out(attention_in(hidden)));
  const at::Tensor y = mlp_in(attended);
  if (!block_.experts) return add_mlp(attended, mlp_mid(y));
  return add_mlp_out(attended, experts_out(y, block_.has_shared_expert() ? mlp_mid(y) : at::Tensor()));
}

at::Tensor embed(const ModelGraph& graph, const at::Tensor& embedding, const at::Tensor& ids) {
  const at::NoGradGuard no_grad;
  const at::Tensor rows = at::embedding(embedding, ids);
  return graph.config.embedding_scale == 1.0 ? rows : rows * graph.config.embedding_scale;
}

at::Tensor head(const ModelGraph& graph, const at::Tensor& norm_weight, const at::Tensor& head_weight,
                const at::Tensor& head_bias, const at::Tensor& hidden, const InputQuantizer* input) {
  const at::NoGradGuard no_grad;
  at::Tensor normed =
      kernels::rms_norm(hidden, norm_weight, graph.config.rms_norm_eps, graph.final_norm().one_plus);
  if (input != nullptr) normed = kernels::fake_quantize_input(normed, *input);
  return softcapped(linear_product(normed, head_weight, head_bias), graph.config.final_softcap);
}

}  // namespace lathe
