// Queries go in blocks of rows: their scores with all keys that any of them sees are one product, each row's
// softmax is taken in place, the row's weights times the values are another product, and the sums divide what
// comes out. A block's scores stay in the second-level cache. Compiled like group_quant_cpu.cc.
#include "lib/kernels/causal_attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "lib/kernels/device/transformer.cuh"
#include "lib/kernels/target_clones.h"
#include "lib/tensor/openblas.h"

namespace lathe::kernels {
namespace {

constexpr int kLanes = 64;
/// Queries of a block; fewer where rows are so long that their scores would be more than this.
constexpr int64_t kQueries = 128, kScores = int64_t{1} << 19;

/// The largest of a row, or minus infinity; a NaN isn't seen.
LATHE_CLONES float largest(const float* x, int64_t count) {
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, -std::numeric_limits<float>::infinity());
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane)
      lanes[lane] = lanes[lane] < x[i + lane] ? x[i + lane] : lanes[lane];
  }
  for (int lane = 0; i + lane < count; ++lane)
    lanes[lane] = lanes[lane] < x[i + lane] ? x[i + lane] : lanes[lane];
  return *std::max_element(lanes, lanes + kLanes);
}

/// x becomes e^(x - top), NaN where it was one; returns the sum.
LATHE_CLONES float exponentials(float* x, int64_t count, float top) {
  const auto exponential = [top](float value) {
    const float below = value - top, e = device::exp_value(below);
    return below == below ? e : below;
  };
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += x[i + lane] = exponential(x[i + lane]);
  }
  for (int lane = 0; i + lane < count; ++lane) lanes[lane] += x[i + lane] = exponential(x[i + lane]);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

/// cap * tanh(x / cap) = cap * (2 / (1 + e^(-2 x / cap)) - 1)
LATHE_CLONES void cap_scores(float* x, int64_t count, float cap) {
  const float factor = 2 / cap;
  for (int64_t i = 0; i < count; ++i) {
    const float capped = cap * (2 * device::sigmoid_value(factor * x[i]) - 1);
    x[i] = x[i] == x[i] ? capped : x[i];
  }
}

LATHE_CLONES void scale_values(float* x, int64_t count, float factor) {
  for (int64_t i = 0; i < count; ++i) x[i] *= factor;
}

struct Head {
  const float* data;
  int64_t token_stride;
};

class Attention {
 public:
  Attention(const OpenBlas& blas, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
            const AttentionRule& rule, const at::Tensor& out)
      : blas_(blas), q_(q), k_(k), v_(v), out_(out), rule_(rule), length_(q.size(2)), width_(q.size(3)) {
    rows_ = std::clamp<int64_t>(kScores / std::max<int64_t>(1, length_), 1, kQueries);
  }

  int64_t blocks() const { return (length_ + rows_ - 1) / rows_; }

  void run() const {
    const int64_t heads = q_.size(1);
    at::parallel_for(0, q_.size(0) * heads * blocks(), 1, [&](int64_t begin, int64_t end) {
      std::vector<float> scores(static_cast<size_t>(rows_ * length_));
      for (int64_t task = begin; task < end; ++task) {
        const int64_t head = task / blocks();
        attend(head / heads, head % heads, task % blocks() * rows_, scores.data());
      }
    });
  }

 private:
  static Head head_of(const at::Tensor& x, int64_t sample, int64_t head) {
    return {x.const_data_ptr<float>() + sample * x.stride(0) + head * x.stride(1), x.stride(2)};
  }

  /// Queries first .. of one head.
  void attend(int64_t sample, int64_t head, int64_t first, float* scores) const {
    const int64_t last = std::min(length_, first + rows_), rows = last - first;
    const int64_t begin = rule_.window ? std::max<int64_t>(0, first - *rule_.window + 1) : 0,
                  keys = last - begin;
    const int64_t kv_head = head / (q_.size(1) / k_.size(1));
    const Head q = head_of(q_, sample, head), k = head_of(k_, sample, kv_head),
               v = head_of(v_, sample, kv_head);
    blas_.gemm(rows, keys, width_, static_cast<float>(rule_.scale),
               {q.data + first * q.token_stride, q.token_stride, false},
               {k.data + begin * k.token_stride, k.token_stride, true}, 0, scores, keys);
    float sums[kQueries];
    for (int64_t row = 0; row < rows; ++row)
      sums[row] = softmax(scores + row * keys, keys, first + row - begin);
    float* const out = out_.mutable_data_ptr<float>() + sample * out_.stride(0) + head * out_.stride(1) +
                       first * out_.stride(2);
    blas_.gemm(rows, width_, keys, 1, {scores, keys, false},
               {v.data + begin * v.token_stride, v.token_stride, false}, 0, out, out_.stride(2));
    for (int64_t row = 0; row < rows; ++row) scale_values(out + row * out_.stride(2), width_, 1 / sums[row]);
  }

  /// Of a query that sees the keys up to `own`; the others get a weight of 0. Returns the sum that is still
  /// to divide by.
  float softmax(float* x, int64_t keys, int64_t own) const {
    const int64_t seen = rule_.window ? std::max<int64_t>(0, own - *rule_.window + 1) : 0,
                  count = own + 1 - seen;
    std::fill_n(x, seen, 0.0f);
    std::fill(x + own + 1, x + keys, 0.0f);
    if (rule_.softcap) cap_scores(x + seen, count, static_cast<float>(*rule_.softcap));
    return exponentials(x + seen, count, largest(x + seen, count));
  }

  const OpenBlas& blas_;
  const at::Tensor &q_, &k_, &v_, &out_;
  const AttentionRule& rule_;
  int64_t length_, width_, rows_;
};

}  // namespace

std::optional<at::Tensor> causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                           const AttentionRule& rule) {
  const OpenBlas* const blas = OpenBlas::instance();
  const auto fits = [](const at::Tensor& x) {
    return x.is_cpu() && x.scalar_type() == at::kFloat && x.stride(3) == 1 && x.stride(2) >= x.size(3);
  };
  if (blas == nullptr || q.numel() == 0 || !fits(q) || !fits(k) || !fits(v)) return std::nullopt;
  at::Tensor out = at::empty({q.size(0), q.size(2), q.size(1), q.size(3)}, q.options()).transpose(1, 2);
  Attention(*blas, q, k, v, rule, out).run();
  return out;
}

uint64_t causal_attention_bytes(int64_t length, int64_t threads) {
  if (OpenBlas::instance() == nullptr) return 0;
  return static_cast<uint64_t>(threads * std::min(kQueries * length, std::max(kScores, length))) *
         sizeof(float);
}

}  // namespace lathe::kernels
