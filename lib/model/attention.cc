#include "lib/model/attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>

namespace lathe {
namespace {

/// Scores that exist at a time under a soft cap, for which there is no fused kernel: over all heads and rows.
constexpr int64_t kScores = int64_t{1} << 20;
/// Queries at a time, at most, where masks or scores are spelt out.
constexpr int64_t kQueries = 256;

// [b, kv_heads, s, d] -> [b, kv_heads * repeat, s, d], each head `repeat` times in a row.
at::Tensor repeat_heads(const at::Tensor& x, int64_t repeat) {
  const int64_t b = x.size(0), heads = x.size(1), s = x.size(2), d = x.size(3);
  return x.unsqueeze(2).expand({b, heads, repeat, s, d}).reshape({b, heads * repeat, s, d});
}

// On the CPU shared KV heads are read in place: as fast as copies on 512 tokens, 10 % faster with a mask on
// 1,024. Of CUDA's kernels with O(s) memory, flash attention does so, too, but takes neither FP32 nor a mask;
// the others want one KV head a query head. `mask` undefined: causal.
at::Tensor attend_fused(const at::Tensor& q, at::Tensor k, at::Tensor v, const at::Tensor& mask,
                        double scale) {
  const int64_t repeat = q.size(1) / k.size(1);
  const bool flash = !mask.defined() && q.scalar_type() != at::kFloat;
  const bool in_place = repeat > 1 && (q.is_cpu() || flash);
  if (repeat > 1 && !in_place) {
    k = repeat_heads(k, repeat);
    v = repeat_heads(v, repeat);
  }
  std::optional<at::Tensor> given;
  if (mask.defined()) given = mask;
  return at::scaled_dot_product_attention(q, k, v, given, /*dropout_p=*/0.0, /*is_causal=*/!mask.defined(),
                                          scale, /*enable_gqa=*/in_place);
}

/// Token i sees the `window` tokens i - window + 1 .. i. The first `window` tokens see all before them; after
/// these every chunk of queries sees the same band of its keys, so there is one small mask for all, and keys
/// out of reach cost nothing.
at::Tensor attend_in_window(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t window,
                            double scale) {
  const int64_t seq = q.size(2);
  const auto part = [](const at::Tensor& x, int64_t first, int64_t last) { return x.slice(2, first, last); };
  const at::Tensor out = at::empty_like(q);
  part(out, 0, window)
      .copy_(attend_fused(part(q, 0, window), part(k, 0, window), part(v, 0, window), at::Tensor(), scale));
  const int64_t step = std::min(kQueries, seq - window);
  const at::Tensor band =
      at::ones({step, step + window - 1}, at::TensorOptions().dtype(at::kBool).device(q.device()))
          .triu()
          .tril(window - 1);
  for (int64_t first = window; first < seq; first += step) {
    const int64_t last = std::min(first + step, seq), begin = first - window + 1;
    const at::Tensor mask = band.slice(0, 0, last - first).slice(1, 0, last - begin);
    part(out, first, last)
        .copy_(attend_fused(part(q, first, last), part(k, begin, last), part(v, begin, last), mask, scale));
  }
  return out;
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
  const int64_t step = std::clamp<int64_t>(kScores / (q.size(0) * q.size(1) * seq), 1, kQueries);
  // Into one tensor: parts that live on between temporaries of growing sizes would keep those from being
  // reused.
  const at::Tensor out = at::empty_like(grouped);
  for (int64_t first = 0; first < seq; first += step) {
    const int64_t last = std::min(first + step, seq);
    out.slice(3, first, last).copy_(capped_chunk(grouped, k, v, first, last, rule));
  }
  return out.view(q.sizes());
}

}  // namespace

at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionRule& rule) {
  if (const auto attended = kernels::causal_attention(q, k, v, rule)) return *attended;
  if (rule.softcap) return attend_capped(q, k, v, rule);
  if (rule.window && *rule.window < q.size(2)) return attend_in_window(q, k, v, *rule.window, rule.scale);
  return attend_fused(q, k, v, at::Tensor(), rule.scale);
}

uint64_t attention_scratch_bytes(const AttentionRule& rule, int64_t length) {
  // A score in FP32, what softmax makes of it, and that in the values' dtype; of each query and key, how far
  // back it looks, and what is hidden.
  constexpr int64_t kScoreBytes = 4 + 4 + 4;
  constexpr int64_t kMaskBytes = 1 + 4;  // ATen turns truth values into FP32
  int64_t spelt_out = 0;
  if (rule.softcap) {
    spelt_out = kScores * kScoreBytes + kQueries * length * 10;
  } else if (rule.window && *rule.window < length) {
    spelt_out = kQueries * (kQueries + *rule.window) * kMaskBytes;
  }
  return std::max(static_cast<uint64_t>(spelt_out),
                  kernels::causal_attention_bytes(length, at::get_num_threads()));
}

}  // namespace lathe
