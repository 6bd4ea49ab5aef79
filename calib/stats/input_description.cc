#include "calib/stats/input_description.h"

#include <ATen/ATen.h>

#include <cmath>
#include <vector>

#include "lib/base/error.h"

namespace lathe {
namespace {

constexpr double kOutlierTokens = 0.06;

double ratio(double value, double reference) { return reference == 0 ? 0 : value / reference; }

/// In one wait for a GPU.
std::vector<double> read_together(const std::vector<at::Tensor>& numbers) {
  std::vector<at::Tensor> wide;
  for (const at::Tensor& number : numbers) wide.push_back(number.to(at::kDouble));
  const at::Tensor all = at::stack(wide).cpu();
  return {all.const_data_ptr<double>(), all.const_data_ptr<double>() + all.numel()};
}

}  // namespace

InputDescription describe_input(const InputStats& stats) {
  LATHE_ASSERT((stats.held() & kDescription) == kDescription && stats.tokens > 0,
               "an input's description needs statistics that were not collected");
  const at::Tensor tokens = largest_magnitudes(stats.token_min_max);
  const at::Tensor channels = stats.channel_distribution.magnitude_quantile(0.999);
  const auto least = static_cast<int64_t>(std::ceil(kOutlierTokens * static_cast<double>(stats.tokens)));
  const int64_t width = stats.mean_abs.numel();
  const std::vector<double> found =
      read_together({largest_magnitudes(stats.min_max).max(), largest_magnitudes(stats.ema_min_max).max(),
                     stats.mean_abs.mean(at::kDouble), stats.kurtosis_all, stats.outliers.ge(least).sum(),
                     stats.outliers.sum(), stats.kurtosis.median(), tokens.median(), tokens.max()});
  InputDescription seen{.tokens = stats.tokens, .width = width};
  seen.abs_max = found[0];
  seen.abs_max_mean = found[1];
  seen.abs_p9999 = stats.distribution->magnitude_quantile(0.9999);
  seen.mean_abs = found[2];
  seen.kurtosis = found[3];
  seen.outlier_channels = static_cast<int64_t>(found[4]);
  seen.outlier_share = found[5] / static_cast<double>(width * stats.tokens);
  seen.channel_kurtosis = found[6];
  seen.channel_spread = ratio(channels.max().item<double>(), channels.median().item<double>());
  seen.token_abs_max = found[7];
  seen.token_spread = ratio(found[8], seen.token_abs_max);
  return seen;
}

}  // namespace lathe
