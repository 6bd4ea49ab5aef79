#include "lib/model/attention.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <vector>

namespace lathe {
namespace {

/// Queries whose scores exist at a time under a soft cap, for which there is no fused kernel.
constexpr int64_t kQueryChunk = 256;

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
at::Tensor attend_fused(const at::Tensor& q, at::Tensor k, at::Tensor v, const AttentionRule& rule) {
  const int64_t seq = q.size(2), repeat = q.size(1) / k.size(1);
  const bool masked = rule.window && *rule.window < seq;
  const bool flash = !masked && q.scalar_type() != at::kFloat;
  const bool in_place = repeat > 1 && (q.is_cpu() || flash);
  if (repeat > 1 && !in_place) {
    k = repeat_heads(k, repeat);
    v = repeat_heads(v, repeat);
  }
  std::optional<at::Tensor> mask;
  if (masked) mask = window_mask(seq, *rule.window, q.device());
  return at::scaled_dot_product_attention(q, k, v, mask, /*dropout_p=*/0.0, /*is_causal=*/!masked, rule.scale,
                                          /*enable_gqa=*/in_place);
}

/// Queries [first, last) of all heads against the keys that any of them may see. q [b, kv, repeat, s, d].
at::Tensor capped_chunk(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t first,
                        int64_t last, const AttentionRule& rule) {
  const int64_t begin = rule.window ? std::max<int64_t>(0, first - *rule.window + 1) : 0;
  const at::Tensor queries = q.slice(3, first, last);
  const at::Tensor keys = k.slice(2, begin, last), values = v.slice(2, begin, last);
  const auto flat = queries.reshape({q.size(0), q.size(1), -1, q.size(4)});  // heads of one KV head, stacked
  at::Tensor scores = at::matmul(flat, keys.transpose(2, 3)).to(at::kFloat).mul_(rule.scale / *rule.softcap);
  scores.tanh_().mul_(*rule.softcap);
  const at::TensorOptions indices = at::TensorOptions().dtype(at::kLong).device(q.device());
  const at::Tensor back = at::arange(first, last, indices).unsqueeze(1) - at::arange(begin, last, indices);
  at::Tensor hidden = back < 0;  // in the future, or behind the window
  if (rule.window) hidden = hidden.logical_or_(back >= *rule.window);
  at::Tensor by_head = scores.view({q.size(0), q.size(1), q.size(2), last - first, last - begin});
  by_head.masked_fill_(hidden, -std::numeric_limits<float>::infinity());
  return at::matmul(at::softmax(scores, -1).to(values.scalar_type()), values).view(queries.sizes());
}

at::Tensor attend_capped(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                         const AttentionRule& rule) {
  const int64_t seq = q.size(2), repeat = q.size(1) / k.size(1);
  const at::Tensor grouped = q.reshape({q.size(0), k.size(1), repeat, seq, q.size(3)});
  std::vector<at::Tensor> parts;
  for (int64_t first = 0; first < seq; first += kQueryChunk) {
    parts.push_back(capped_chunk(grouped, k, v, first, std::min(first + kQueryChunk, seq), rule));
  }
  return at::cat(parts, 3).view(q.sizes());
}

}  // namespace

at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionRule& rule) {
  return rule.softcap ? attend_capped(q, k, v, rule) : attend_fused(q, k, v, rule);
}

}  // namespace lathe
