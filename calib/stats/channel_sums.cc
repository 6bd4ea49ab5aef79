#include "calib/stats/channel_sums.h"

#include <ATen/ATen.h>

namespace lathe {
namespace {

constexpr at::Tensor kernels::ChannelMoments::*kSums[] = {
    &kernels::ChannelMoments::magnitude, &kernels::ChannelMoments::square,
    &kernels::ChannelMoments::first,     &kernels::ChannelMoments::third,
    &kernels::ChannelMoments::fourth,    &kernels::ChannelMoments::outliers};

/// From the means of x, x^2, x^3, x^4 (FP64).
at::Tensor kurtosis_of(const at::Tensor& m1, const at::Tensor& m2, const at::Tensor& m3,
                       const at::Tensor& m4) {
  const at::Tensor square = m1 * m1;
  const at::Tensor variance = m2 - square;
  const at::Tensor fourth = m4 - m1 * m3 * 4 + square * m2 * 6 - square * square * 3;
  // A constant channel's variance is a rounding error of m2.
  const at::Tensor constant = variance <= m2 * 1e-14;
  return at::where(constant, at::zeros_like(m1), fourth / (variance * variance));
}

}  // namespace

kernels::MomentsWanted ChannelSumsCollector::wanted(StatSet set) {
  return {.magnitude = set.mean_abs,
          .square = set.mean_square || set.kurtosis,
          .powers = set.kurtosis,
          .outliers = set.outliers};
}

void ChannelSumsCollector::observe(const kernels::ChannelMoments& chunk) {
  for (const auto member : kSums) {
    const at::Tensor& part = chunk.*member;
    if (!part.defined()) continue;
    at::Tensor& sum = sums_.*member;
    if (!sum.defined()) sum = at::zeros_like(part, part.scalar_type() == at::kInt ? at::kLong : at::kDouble);
    sum += part;
  }
}

void ChannelSumsCollector::merge(const ChannelSumsCollector& other) {
  for (const auto member : kSums) {
    const at::Tensor& part = other.sums_.*member;
    if (!part.defined()) continue;
    at::Tensor& sum = sums_.*member;
    sum = sum.defined() ? sum + part.to(sum.device()) : part.clone();
  }
}

at::Tensor ChannelSumsCollector::mean_abs(double factor) const {
  return wanted_.mean_abs ? (sums_.magnitude * factor).to(at::kFloat) : at::Tensor();
}

at::Tensor ChannelSumsCollector::mean_square(double factor) const {
  return wanted_.mean_square ? (sums_.square * factor).to(at::kFloat) : at::Tensor();
}

ChannelSumsCollector::Kurtosis ChannelSumsCollector::kurtosis(double factor) const {
  if (!wanted_.kurtosis) return {};
  const at::Tensor means = at::stack({sums_.first, sums_.square, sums_.third, sums_.fourth}) * factor;
  const at::Tensor all = means.mean(1);
  return {kurtosis_of(means[0], means[1], means[2], means[3]).to(at::kFloat),
          kurtosis_of(all[0], all[1], all[2], all[3]).item<double>()};
}

}  // namespace lathe
