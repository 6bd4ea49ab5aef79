#include "calib/stats/input_stats.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "lib/base/error.h"

namespace lathe {
namespace {

/// Bounds the error of FP32 sums over tokens, and the size of temporaries.
constexpr int64_t kChunkTokens = 4096;

/// gram[i, j] / (s_i s_j). The factor of a pair is one symmetric product, so the result is as symmetric as
/// the input.
at::Tensor gram_divided(const at::Tensor& gram, const at::Tensor& inverse) {
  constexpr int64_t kRows = 512;
  at::Tensor result = at::empty_like(gram);
  for (int64_t row = 0; row < gram.size(0); row += kRows) {
    const at::Tensor factors = inverse.slice(0, row, row + kRows).unsqueeze(1) * inverse.unsqueeze(0);
    at::Tensor rows = result.slice(0, row, row + kRows);
    at::mul_out(rows, gram.slice(0, row, row + kRows), factors);
  }
  return result;
}

}  // namespace

InputStats InputStats::with_inputs_divided(const at::Tensor& scales) const {
  const at::Tensor inverse = scales.to(at::kFloat).reciprocal();
  InputStats result{tokens, {}, {}};
  if (gram.defined()) result.gram = gram_divided(gram, inverse);
  if (mean_abs.defined()) result.mean_abs = mean_abs * inverse;
  return result;
}

StatsCollector::StatsCollector(StatSet wanted, int64_t width, c10::Device device, std::string where)
    : where_(std::move(where)), width_(width) {
  if (wanted.gram) gram_.emplace(width, device);
  if (wanted.mean_abs) mean_abs_.emplace(width, device);
}

void StatsCollector::observe(const at::Tensor& x) {
  LATHE_ASSERT(x.dim() >= 1 && x.size(-1) == width_ && x.scalar_type() == at::kFloat,
               "{}: observed {} channels of {}, expected {} of Float", where_, x.size(-1),
               c10::toString(x.scalar_type()), width_);
  const at::Tensor rows = x.reshape({-1, width_});
  for (int64_t token = 0; token < rows.size(0); token += kChunkTokens) {
    observe_chunk(rows.slice(0, token, token + kChunkTokens));
  }
}

void StatsCollector::observe_chunk(const at::Tensor& x) {
  bool finite = true;
  if (gram_) finite = gram_->observe(x) && finite;
  if (mean_abs_) finite = mean_abs_->observe(x) && finite;
  if (!gram_ && !mean_abs_) finite = at::isfinite(x).all().item<bool>();
  if (!finite) refuse(x);
  tokens_ += x.size(0);
}

void StatsCollector::refuse(const at::Tensor& x) const {
  const at::Tensor bad = at::isfinite(x).logical_not_().nonzero().cpu();
  if (bad.size(0) == 0) {
    user_error(
        "{}: activations are finite, but as large as {:g}, so that their squares overflow FP32; the "
        "checkpoint is "
        "damaged or not of the model that config.json describes",
        where_, x.abs().max().item<float>());
  }
  const int64_t token = bad[0][0].item<int64_t>(), channel = bad[0][1].item<int64_t>();
  user_error(
      "{}: the activation of token {}, channel {} is {}; the checkpoint's weights are damaged or overflow in "
      "the "
      "forward pass",
      where_, tokens_ + token, channel, x[token][channel].item<float>());
}

void StatsCollector::merge(const StatsCollector& other) {
  LATHE_ASSERT(width_ == other.width_ && gram_.has_value() == other.gram_.has_value() &&
                   mean_abs_.has_value() == other.mean_abs_.has_value(),
               "{} and {} collect different statistics", where_, other.where_);
  tokens_ += other.tokens_;
  if (gram_) gram_->merge(*other.gram_);
  if (mean_abs_) mean_abs_->merge(*other.mean_abs_);
}

InputStats StatsCollector::finish() const {
  LATHE_ASSERT(tokens_ > 0, "{}: no token was observed", where_);
  const double factor = 1.0 / static_cast<double>(tokens_);
  InputStats result{tokens_, {}, {}};
  if (gram_) result.gram = gram_->finish(factor);
  if (mean_abs_) result.mean_abs = mean_abs_->finish(factor);
  return result;
}

}  // namespace lathe
