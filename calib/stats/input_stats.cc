#include "calib/stats/input_stats.h"

#include <ATen/ATen.h>

#include "lib/base/error.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

/// gram[i, j] / (s_i s_j). The factor of a pair is one symmetric product, so the result is as symmetric as
/// the input. In place where nobody else holds the matrix.
at::Tensor gram_divided(const at::Tensor& gram, const at::Tensor& inverse) {
  if (!gram.defined()) return {};
  constexpr int64_t kRows = 512;
  at::Tensor result = sole_owner(gram) ? gram : at::empty_like(gram);
  for (int64_t row = 0; row < gram.size(0); row += kRows) {
    const at::Tensor factors = inverse.slice(0, row, row + kRows).unsqueeze(1) * inverse.unsqueeze(0);
    at::Tensor rows = result.slice(0, row, row + kRows);
    at::mul_out(rows, gram.slice(0, row, row + kRows), factors);
  }
  return result;
}

at::Tensor times(const at::Tensor& values, const at::Tensor& factors) {
  return values.defined() ? values * factors : values;
}

MinMax times(const MinMax& range, const at::Tensor& factors) {
  return {times(range.low, factors), times(range.high, factors)};
}

}  // namespace

InputStats InputStats::with_inputs_divided(const at::Tensor& scales) const& {
  return InputStats(*this).with_inputs_divided(scales);  // which shares its matrices with this
}

InputStats InputStats::with_inputs_divided(const at::Tensor& scales) && {
  const at::Tensor inverse = scales.to(at::kFloat).reciprocal();
  InputStats result;
  result.tokens = tokens;
  result.gram_tokens = gram_tokens;
  result.gram = gram_divided(gram, inverse);
  result.cross_gram = gram_divided(cross_gram, inverse);
  result.mean_abs = times(mean_abs, inverse);
  result.mean_square = times(times(mean_square, inverse), inverse);
  result.min_max = times(min_max, inverse);
  result.ema_min_max = times(ema_min_max, inverse);
  result.kurtosis = kurtosis;
  result.sample = times(sample, inverse);
  result.lost = lost | (held() & kLostByDivision);
  return result;
}

void InputStats::recover(StatSet wanted, InputStats again) {
  const StatSet back = lost & wanted;
  LATHE_ASSERT((back & kLostByDivision) == back && (again.held() & back) == back && again.tokens == tokens,
               "statistics observed again are of {} tokens, before of {}", again.tokens, tokens);
  if (back.step_min_max) step_min_max = std::move(again.step_min_max);
  if (back.token_min_max) token_min_max = std::move(again.token_min_max);
  if (back.outliers) outliers = std::move(again.outliers);
  if (back.distribution) distribution = std::move(again.distribution);
  if (back.channel_distribution) channel_distribution = std::move(again.channel_distribution);
  lost = lost - back;
}

StatSet InputStats::held() const {
  return {.gram = gram.defined(),
          .mean_abs = mean_abs.defined(),
          .mean_square = mean_square.defined(),
          .min_max = min_max.defined(),
          .ema_min_max = ema_min_max.defined(),
          .step_min_max = step_min_max.defined(),
          .token_min_max = token_min_max.defined(),
          .outliers = outliers.defined(),
          .kurtosis = kurtosis.defined(),
          .distribution = distribution != nullptr,
          .channel_distribution = channel_distribution.defined(),
          .cross_gram = cross_gram.defined(),
          .sample = sample.defined()};
}

}  // namespace lathe
