#include "lib/model/cached_attention.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

namespace lathe {
namespace {

/// Scores that exist at a time, over all rows and heads.
constexpr int64_t kScores = int64_t{1} << 22;
/// Queries of a chunk: more of them look at more tokens in both forms.
constexpr int64_t kQueries = 128;

/// Tokens of a row, [begin, end).
struct Tokens {
  int64_t begin = 0, end = 0;
  int64_t count() const { return end - begin; }
};

at::Tensor part(const at::Tensor& x, Tokens tokens) { return x.slice(2, tokens.begin, tokens.end); }

/// One side as a chunk of queries sees it.
struct Seen {
  at::Tensor mixed;    // [b, kv_heads, n, head_dim]: tokens `all` in the form that most queries see
  Tokens both;         // those that the chunk's last queries see rounded, its first ones as they are ...
  at::Tensor rounded;  // ... rounded, [b, kv_heads, m, head_dim]; in `mixed` they are as they are
  at::Tensor by;       // Bool [queries, m]: rounded for this query
};

Seen seen_by(const CachedSide& side, Tokens queries, Tokens all, int64_t sink,
             int64_t (*rounded)(const KvCacheScheme&, int64_t), const KvCacheScheme& scheme) {
  const auto clamped = [&](int64_t token) { return std::clamp(token, all.begin, all.end); };
  const int64_t first = clamped(sink);
  Seen seen;
  seen.both = {std::max(first, clamped(rounded(scheme, queries.begin))),
               std::max(first, clamped(rounded(scheme, queries.end - 1)))};
  seen.mixed = at::cat({part(side.kept, {all.begin, first}), part(side.rounded, {first, seen.both.begin}),
                        part(side.kept, {seen.both.begin, all.end})},
                       2);
  if (seen.both.count() == 0) return seen;
  seen.rounded = part(side.rounded, seen.both);
  std::vector<int64_t> ends;
  for (int64_t t = queries.begin; t < queries.end; ++t) ends.push_back(rounded(scheme, t));
  const at::TensorOptions indices = at::TensorOptions().dtype(at::kLong);
  const at::Tensor by =
      at::arange(seen.both.begin, seen.both.end, indices).lt(at::tensor(ends, indices).unsqueeze(1));
  seen.by = by.to(side.kept.device());
  return seen;
}

/// Queries [first, last) of all heads. q [b, kv_heads, repeat, s, d].
at::Tensor attend_chunk(const at::Tensor& q, const CachedSide& keys, const CachedSide& values, Tokens queries,
                        const KvCacheScheme& scheme, const AttentionRule& rule) {
  const Tokens all{rule.window ? std::max<int64_t>(0, queries.begin - *rule.window + 1) : 0, queries.end};
  const Seen k = seen_by(keys, queries, all, scheme.sink, rounded_keys, scheme);
  const Seen v = seen_by(values, queries, all, scheme.sink, rounded_values, scheme);
  const at::Tensor chunk = q.slice(3, queries.begin, queries.end);
  const at::Tensor flat = chunk.reshape({q.size(0), q.size(1), -1, q.size(4)});
  const auto by_query = [&](const at::Tensor& x) {  // [b, kv_heads, repeat, queries, tokens], a view
    return x.view({q.size(0), q.size(1), q.size(2), queries.count(), -1});
  };
  const auto columns = [&](const at::Tensor& x, Tokens tokens) {
    return by_query(x).slice(4, tokens.begin - all.begin, tokens.end - all.begin);
  };
  at::Tensor scores = at::matmul(flat, k.mixed.transpose(2, 3));
  if (k.both.count() > 0) {
    const at::Tensor place = columns(scores, k.both);
    place.copy_(at::where(k.by, by_query(at::matmul(flat, k.rounded.transpose(2, 3))), place));
  }
  scores.mul_(rule.softcap ? rule.scale / *rule.softcap : rule.scale);
  if (rule.softcap) scores.tanh_().mul_(*rule.softcap);
  const at::TensorOptions indices = at::TensorOptions().dtype(at::kLong).device(q.device());
  const at::Tensor back =
      at::arange(queries.begin, queries.end, indices).unsqueeze(1) - at::arange(all.begin, all.end, indices);
  at::Tensor hidden = back < 0;  // in the future, or behind the model's own window
  if (rule.window) hidden = hidden.logical_or_(back >= *rule.window);
  by_query(scores).masked_fill_(hidden, -std::numeric_limits<float>::infinity());
  const at::Tensor weights = at::softmax(scores, -1);
  if (v.both.count() == 0) return at::matmul(weights, v.mixed).view(chunk.sizes());
  const at::Tensor shared = columns(weights, v.both);
  const at::Tensor rounded = shared.masked_fill(v.by.logical_not(), 0);
  shared.masked_fill_(v.by, 0);
  const at::Tensor out = at::matmul(weights, v.mixed);
  return out.add_(at::matmul(rounded.flatten(2, 3), v.rounded)).view(chunk.sizes());
}

}  // namespace

at::Tensor attend_cached(const at::Tensor& q, const CachedSide& keys, const CachedSide& values,
                         const KvCacheScheme& scheme, const AttentionRule& rule) {
  const int64_t length = q.size(2), kv_heads = keys.kept.size(1);
  const at::Tensor grouped = q.reshape({q.size(0), kv_heads, q.size(1) / kv_heads, length, q.size(3)});
  const int64_t step = std::clamp<int64_t>(kScores / (q.size(0) * q.size(1) * length), 1, kQueries);
  const at::Tensor out = at::empty_like(grouped);
  for (int64_t first = 0; first < length;) {
    int64_t last = std::min(first + step, length);
    // KIVI's keys leave in whole windows: no chunk looks at any of them in both forms.
    if (scheme.type == "kivi") last = std::min(last, (first / scheme.window + 1) * scheme.window);
    out.slice(3, first, last).copy_(attend_chunk(grouped, keys, values, {first, last}, scheme, rule));
    first = last;
  }
  return out.view(q.sizes());
}

uint64_t cached_attention_bytes(const KvCacheShape& shape, int64_t heads, int64_t tokens, int64_t length) {
  // Both forms of both sides, what a chunk sees of them, and two more while a side is rounded, all FP32.
  const int64_t sides = 8 * tokens * shape.channels();
  // A chunk's scores and weights, the parts of them that are looked at in both forms, and which are hidden.
  const int64_t queries = std::max<int64_t>(1, kScores / (heads * length));
  const int64_t chunk = 4 * std::max(kScores, heads * length) + 3 * std::min(queries, kQueries) * length;
  return static_cast<uint64_t>(sides + chunk) * sizeof(float);
}

}  // namespace lathe
