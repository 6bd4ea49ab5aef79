#include "calib/stats/input_description.h"

#include <ATen/ATen.h>

#include <cmath>

#include "lib/base/error.h"

namespace lathe {
namespace {

constexpr double kOutlierTokens = 0.06;

double ratio(double value, double reference) { return reference == 0 ? 0 : value / reference; }
double median_of(const at::Tensor& values) { return values.median().item<double>(); }

}  // namespace

InputDescription describe_input(const InputStats& stats) {
  LATHE_ASSERT((stats.held() & kDescription) == kDescription && stats.tokens > 0,
               "an input's description needs statistics that were not collected");
  const at::Tensor tokens = largest_magnitudes(stats.token_min_max);
  const at::Tensor channels = stats.channel_distribution.magnitude_quantile(0.999);
  const auto least = static_cast<int64_t>(std::ceil(kOutlierTokens * static_cast<double>(stats.tokens)));
  const int64_t width = stats.mean_abs.numel();
  InputDescription seen{.tokens = stats.tokens, .width = width};
  seen.abs_max = largest_magnitudes(stats.min_max).max().item<double>();
  seen.abs_max_mean = largest_magnitudes(stats.ema_min_max).max().item<double>();
  seen.abs_p9999 = stats.distribution->magnitude_quantile(0.9999);
  seen.mean_abs = stats.mean_abs.mean(at::kDouble).item<double>();
  seen.kurtosis = stats.kurtosis_all.value();
  seen.outlier_channels = stats.outliers.ge(least).sum().item<int64_t>();
  seen.outlier_share = stats.outliers.sum().item<double>() / static_cast<double>(width * stats.tokens);
  seen.channel_kurtosis = median_of(stats.kurtosis);
  seen.channel_spread = ratio(channels.max().item<double>(), median_of(channels));
  seen.token_abs_max = median_of(tokens);
  seen.token_spread = ratio(tokens.max().item<double>(), seen.token_abs_max);
  return seen;
}

}  // namespace lathe
