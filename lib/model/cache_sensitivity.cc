#include "lib/model/cache_sensitivity.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

namespace lathe {
namespace {

/// Scores that exist at a time, over all heads.
constexpr int64_t kScores = int64_t{1} << 21;

/// Sums over queries, for each token and KV head.
struct Sums {
  at::Tensor weights;   // p^2 [b, kv_heads, s]
  at::Tensor squares;   // a q_c^2 [b, kv_heads, s, head_dim], a = p^2 |v - o|^2 (d s / d (q k))^2
  at::Tensor products;  // a q_c q_c', of channels that are turned together [b, kv_heads, s, rotary_dim / 2]
};

/// Queries [first, last).
void add_chunk(const AttentionInputs& inputs, const AttentionRule& rule, int64_t first, int64_t last,
               int64_t turned, const Sums& sums) {
  const at::Tensor &k = inputs.keys, &v = inputs.values;
  const int64_t batch = k.size(0), kv_heads = k.size(1), width = k.size(3);
  const int64_t begin = rule.window ? std::max<int64_t>(0, first - *rule.window + 1) : 0,
                count = last - first;
  const at::Tensor q =
      inputs.queries.slice(2, first, last).reshape({batch, kv_heads, -1, width});  // heads of one, stacked
  const at::Tensor keys = k.slice(2, begin, last), values = v.slice(2, begin, last);
  at::Tensor scores = at::matmul(q, keys.transpose(2, 3)).mul_(rule.scale), slope;
  if (rule.softcap) {
    const at::Tensor bent = (scores / *rule.softcap).tanh_();
    scores = bent * *rule.softcap;
    slope = bent.square_().neg_().add_(1);
  }
  const at::TensorOptions indices = at::TensorOptions().dtype(at::kLong).device(q.device());
  const at::Tensor back = at::arange(first, last, indices).unsqueeze(1) - at::arange(begin, last, indices);
  at::Tensor hidden = back < 0;
  if (rule.window) hidden = hidden.logical_or_(back >= *rule.window);
  scores.view({batch, kv_heads, -1, count, last - begin})
      .masked_fill_(hidden, -std::numeric_limits<float>::infinity());
  at::Tensor weights = at::softmax(scores, -1);
  const at::Tensor out = at::matmul(weights, values);
  weights = weights.square();
  sums.weights.slice(2, begin, last).add_(weights.sum(2));
  at::Tensor apart = at::matmul(out, values.transpose(2, 3)).mul_(-2);
  apart.add_(values.square().sum(-1).unsqueeze(2)).add_(out.square().sum(-1, /*keepdim=*/true)).clamp_min_(0);
  at::Tensor factors = weights.mul_(apart).mul_(rule.scale * rule.scale);
  if (slope.defined()) factors = factors * slope.square();
  const at::Tensor by_key = factors.transpose(2, 3);
  sums.squares.slice(2, begin, last).add_(at::matmul(by_key, q.square()));
  const at::Tensor pairs = q.slice(3, 0, turned / 2) * q.slice(3, turned / 2, turned);
  sums.products.slice(2, begin, last).add_(at::matmul(by_key, pairs));
}

}  // namespace

CacheSensitivity cache_sensitivity(const AttentionInputs& inputs, const at::Tensor& cos,
                                   const at::Tensor& sin, const AttentionRule& rule) {
  const at::Tensor& k = inputs.keys;
  const int64_t length = k.size(2), turned = cos.size(1), half = turned / 2;
  const int64_t step = std::clamp<int64_t>(kScores / (inputs.queries.size(1) * length), 1, length);
  const Sums sums{at::zeros({k.size(0), k.size(1), length}, k.options()), at::zeros(k.sizes(), k.options()),
                  at::zeros({k.size(0), k.size(1), length, half}, k.options())};
  // Sample by sample: sums have one order, however many come together.
  for (int64_t row = 0; row < k.size(0); ++row) {
    const auto own = [&](const at::Tensor& x) { return x.narrow(0, row, 1); };
    const AttentionInputs sample{own(inputs.queries), own(k), own(inputs.values), at::Tensor()};
    for (int64_t first = 0; first < length; first += step)
      add_chunk(sample, rule, first, std::min(first + step, length), turned,
                {own(sums.weights), own(sums.squares), own(sums.products)});
  }
  // Back through the rotation: a key's channel c and its partner c' turn into c cos - c' sin and c' cos + c
  // sin, so that q k changes by q_c cos + q_c' sin with c, and by q_c' cos - q_c sin with c'.
  const at::Tensor c = cos.slice(1, 0, half), s = sin.slice(1, 0, half);
  const at::Tensor own = sums.squares.slice(3, 0, half), other = sums.squares.slice(3, half, turned);
  const at::Tensor mixed = 2 * c * s * sums.products;
  at::Tensor keys = sums.squares.clone();
  keys.slice(3, 0, half).copy_((c * c * own + s * s * other + mixed).clamp_min_(0));
  keys.slice(3, half, turned).copy_((c * c * other + s * s * own - mixed).clamp_min_(0));
  return {keys.transpose(1, 2), sums.weights.transpose(1, 2)};
}

double cache_sensitivity_flops(int64_t heads, int64_t head_dim, int64_t length) {
  return 2 * 4.5 * static_cast<double>(heads * head_dim) * static_cast<double>(length);
}

}  // namespace lathe
