#include "lib/model/block_gradient.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "lib/base/error.h"
#include "lib/model/activation.h"

namespace lathe {
namespace {

at::Tensor activated(kernels::Activation activation, const at::Tensor& x) {
  using kernels::Activation;
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

/// [b, heads, s, d] -> the same, turned.
at::Tensor rotated(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines) {
  const int64_t turning = cosines.size(1);
  const at::Tensor part = x.narrow(-1, 0, turning);
  const std::vector<at::Tensor> halves = part.chunk(2, -1);
  const at::Tensor turned = part * cosines + at::cat({-halves[1], halves[0]}, -1) * sines;
  if (turning == x.size(-1)) return turned;
  return at::cat({turned, x.narrow(-1, turning, x.size(-1) - turning)}, -1);
}

/// What a linear read and put out.
struct Seen {
  const Linear* linear;
  at::Tensor input, output, tokens;
};

/// One pass with a graph for its derivative. Names are those of BlockForward's stages.
class DifferentiableBlock {
 public:
  DifferentiableBlock(const ModelConfig& config, const Block& block, const BlockWeights& weights,
                      const RopeTables& rope)
      : config_(config), block_(block), weights_(weights), rope_(rope) {}

  at::Tensor run(const at::Tensor& hidden) {
    tokens_ = at::arange(hidden.size(0) * hidden.size(1), hidden.options().dtype(at::kLong));
    const at::Tensor attended =
        hidden + normed(block_.attention_out_norm, attention(normed(block_.attention_norm, hidden)));
    const at::Tensor y = normed(block_.mlp_norm, attended);
    const at::Tensor rows = y.reshape({-1, y.size(-1)});
    const at::Tensor made =
        block_.experts ? experts(rows)
                       : apply(*find(LinearRole::down_proj), gated(std::nullopt, rows, tokens_), tokens_);
    return attended + normed(block_.mlp_out_norm, made.view(hidden.sizes()));
  }

  const std::vector<Seen>& seen() const { return seen_; }
  /// As they are cached, keys before their rotation: [b, kv_heads, s, head_dim].
  const at::Tensor& keys() const { return keys_; }
  const at::Tensor& values() const { return values_; }

 private:
  const Linear* find(LinearRole role, std::optional<int64_t> expert = std::nullopt) const {
    return block_.find(role, expert);
  }

  at::Tensor normed(const Norm& norm, const at::Tensor& x) const {
    if (norm.name.empty()) return x;
    const at::Tensor weight = norm.one_plus ? weights_.norm(norm) + 1 : weights_.norm(norm);
    return x * at::rsqrt(x.square().mean(-1, /*keepdim=*/true) + config_.rms_norm_eps) * weight;
  }

  /// rows [n, in], of these tokens.
  at::Tensor apply(const Linear& linear, const at::Tensor& rows, const at::Tensor& tokens) {
    const at::Tensor bias = weights_.bias(linear);
    const at::Tensor out = bias.defined() ? at::linear(rows, weights_.weight(linear), bias)
                                          : at::linear(rows, weights_.weight(linear));
    if (linear.role != LinearRole::router) seen_.push_back({&linear, rows.detach(), out, tokens});
    return out;
  }

  at::Tensor gated(std::optional<int64_t> expert, const at::Tensor& rows, const at::Tensor& tokens) {
    const kernels::Activation activation = find_activation(config_.activation);
    if (const Linear* fused = find(LinearRole::gate_up_proj, expert)) {
      const std::vector<at::Tensor> halves = apply(*fused, rows, tokens).chunk(2, -1);
      return activated(activation, halves[0]) * halves[1];
    }
    const at::Tensor gate = apply(*find(LinearRole::gate_proj, expert), rows, tokens);
    return activated(activation, gate) * apply(*find(LinearRole::up_proj, expert), rows, tokens);
  }

  /// [b, heads, s, head_dim] of [n, heads * head_dim].
  at::Tensor heads(const Norm& norm, at::Tensor x, int64_t batch, int64_t seq) const {
    if (!norm.name.empty())
      x = normed(norm, x.reshape({batch, seq, -1, norm.width})).reshape({batch, seq, -1});
    if (block_.qkv_clip) x = x.clamp(-*block_.qkv_clip, *block_.qkv_clip);
    return x.reshape({batch, seq, -1, config_.head_dim}).transpose(1, 2);
  }

  at::Tensor attention(const at::Tensor& y) {
    const int64_t batch = y.size(0), seq = y.size(1);
    const at::Tensor rows = y.reshape({-1, y.size(-1)});
    const int64_t kv = config_.num_kv_heads * config_.head_dim, width = config_.num_heads * config_.head_dim;
    std::vector<at::Tensor> qkv;
    if (const Linear* fused = find(LinearRole::qkv_proj)) {
      qkv = apply(*fused, rows, tokens_).split_with_sizes({width, kv, kv}, -1);
    } else {
      for (const LinearRole role : {LinearRole::q_proj, LinearRole::k_proj, LinearRole::v_proj})
        qkv.push_back(apply(*find(role), rows, tokens_));
    }
    const at::Tensor& cosines = block_.local_rope ? rope_.local_cos : rope_.cos;
    const at::Tensor& sines = block_.local_rope ? rope_.local_sin : rope_.sin;
    const int64_t repeat = config_.num_heads / config_.num_kv_heads;
    const at::Tensor q = rotated(heads(block_.q_norm, qkv[0], batch, seq), cosines, sines);
    keys_ = heads(block_.k_norm, qkv[1], batch, seq);
    values_ = heads(Norm{}, qkv[2], batch, seq);
    const at::Tensor k = rotated(keys_, cosines, sines);
    const at::Tensor out = attended(q, k.repeat_interleave(repeat, 1), values_.repeat_interleave(repeat, 1));
    return apply(*find(LinearRole::o_proj), out.transpose(1, 2).reshape({batch * seq, -1}), tokens_)
        .view(y.sizes());
  }

  at::Tensor attended(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) const {
    const int64_t seq = q.size(2);
    const bool windowed = block_.sliding_window && *block_.sliding_window < seq;
    if (!windowed && !block_.attention_softcap) {
      return at::scaled_dot_product_attention(q, k, v, {}, /*dropout_p=*/0.0, /*is_causal=*/true,
                                              block_.attention_scale);
    }
    at::Tensor scores = at::matmul(q, k.transpose(2, 3)) * block_.attention_scale;
    if (const auto& cap = block_.attention_softcap) scores = at::tanh(scores / *cap) * *cap;
    at::Tensor seen = at::ones({seq, seq}, q.options().dtype(at::kBool)).tril();
    if (windowed) seen = seen.triu(1 - *block_.sliding_window);
    scores = scores.masked_fill(seen.logical_not(), -std::numeric_limits<float>::infinity());
    return at::matmul(at::softmax(scores, -1), v);
  }

  at::Tensor experts(const at::Tensor& rows) {
    const Experts& rule = *block_.experts;
    const at::Tensor logits = apply(*find(LinearRole::router), rows, tokens_);
    auto [weights, chosen] = at::softmax(logits, -1).topk(rule.per_token, -1);
    if (rule.normalise) weights = weights / weights.sum(-1, /*keepdim=*/true);
    at::Tensor out = at::zeros_like(rows);
    if (const Linear* gate = find(LinearRole::shared_expert_gate)) {
      const at::Tensor made =
          apply(*find(LinearRole::down_proj), gated(std::nullopt, rows, tokens_), tokens_);
      out = made * at::sigmoid(apply(*gate, rows, tokens_));
    }
    for (int64_t expert = 0; expert < rule.count; ++expert) {
      const at::Tensor places = chosen.eq(expert).nonzero();
      if (places.size(0) == 0) continue;
      const at::Tensor tokens = places.select(1, 0);
      const at::Tensor share = weights.index({tokens, places.select(1, 1)}).unsqueeze(1);
      const at::Tensor mid = gated(expert, rows.index_select(0, tokens), tokens);
      out = out.index_add(0, tokens, apply(*find(LinearRole::down_proj, expert), mid, tokens) * share);
    }
    return out;
  }

  const ModelConfig& config_;
  const Block& block_;
  const BlockWeights& weights_;
  const RopeTables& rope_;
  at::Tensor tokens_, keys_, values_;
  std::vector<Seen> seen_;
};

}  // namespace

BlockGradient block_gradient(const ModelConfig& config, const Block& block, const BlockWeights& weights,
                             const RopeTables& rope, const at::Tensor& hidden, const at::Tensor& gradient,
                             bool cache) {
  LATHE_ASSERT(hidden.dim() == 3 && gradient.sizes() == hidden.sizes(), "{}: a gradient of another shape",
               block.prefix);
  const at::AutoGradMode recording(true);
  const at::Tensor input = hidden.detach().clone().requires_grad_(true);
  DifferentiableBlock pass(config, block, weights, rope);
  const at::Tensor output = pass.run(input);
  torch::autograd::variable_list wanted = {input};
  for (const Seen& one : pass.seen()) wanted.push_back(one.output);
  if (cache) wanted.insert(wanted.end(), {pass.keys(), pass.values()});
  const torch::autograd::variable_list found = torch::autograd::grad({output}, wanted, {gradient});
  BlockGradient result{output.detach(), found.front(), {}, {}, {}};
  if (cache) {
    result.keys = found[found.size() - 2].transpose(1, 2);
    result.values = found.back().transpose(1, 2);
  }
  for (size_t i = 0; i < pass.seen().size(); ++i) {
    const Seen& one = pass.seen()[i];
    result.linears.push_back({one.linear, one.input, found[i + 1], one.tokens});
  }
  return result;
}

uint64_t block_gradient_bytes(const ModelGraph& graph, int64_t length) {
  // Of hidden states: norms, their squares and inverses, sums, rotated heads and what softmax leaves.
  constexpr int64_t kHiddenStates = 16;
  // Of scores that are spelt out: before and after the cap, the mask and softmax, and softmax's derivative.
  constexpr int64_t kScores = 6;
  int64_t most = 0;
  for (const Block& block : graph.blocks) {
    int64_t values = kHiddenStates * graph.config.hidden_size * length, largest = 0;
    for (const Linear& linear : block.linears) {
      // What it reads and puts out, the gradient of that, and what the activation makes of it. All experts
      // together get each token so many times.
      const int64_t row = linear.in + 4 * linear.out;
      values +=
          row * (linear.input.expert ? length * block.experts->per_token / block.experts->count + 1 : length);
      largest = std::max(largest, linear.in * linear.out);
    }
    const bool spelt_out =
        block.attention_softcap || (block.sliding_window && *block.sliding_window < length);
    if (spelt_out) values += kScores * graph.config.num_heads * length * length;
    most = std::max(most, values + 3 * largest);
  }
  return static_cast<uint64_t>(most) * sizeof(float);
}

at::Tensor rms_norm_gradient(const at::Tensor& x, const at::Tensor& weight, double eps, bool unit_offset,
                             const at::Tensor& gradient) {
  const at::NoGradGuard none;
  const at::Tensor inverse = at::rsqrt(x.square().mean(-1, /*keepdim=*/true) + eps);
  const at::Tensor scaled = gradient * (unit_offset ? weight + 1 : weight);
  return inverse * (scaled - x * inverse.square() * (scaled * x).mean(-1, /*keepdim=*/true));
}

}  // namespace lathe
