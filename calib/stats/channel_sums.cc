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

ChannelSumsCollector::ChannelSumsCollector(StatSet wanted, int64_t width, c10::Device device)
    : wanted_(wanted),
      width_(width),
      sums_(kernels::no_moments(width,
                                {.magnitude = wanted.mean_abs,
                                 .square = wanted.mean_square || wanted.kurtosis,
                                 .powers = wanted.kurtosis,
                                 .outliers = wanted.outliers},
                                device)) {}

void ChannelSumsCollector::observe(const at::Tensor& x, const kernels::StepExtrema& step) {
  kernels::add_channel_moments(x, sums_, rows_, step);
  rows_ += x.size(0);
}

void ChannelSumsCollector::merge(const ChannelSumsCollector& other) {
  const c10::Device device = sums_.low.device();
  for (const auto member : kSums) {
    if ((sums_.*member).defined()) sums_.*member += (other.sums_.*member).to(device);
  }
  sums_.low = at::minimum(sums_.low, other.sums_.low.to(device));
  sums_.high = at::maximum(sums_.high, other.sums_.high.to(device));
  const at::Tensor bad = other.sums_.bad.to(device);
  sums_.bad = at::minimum(sums_.bad, at::where(bad == kernels::kNoneBad, bad, bad + rows_ * width_));
  rows_ += other.rows_;
}

MinMax ChannelSumsCollector::range() const {
  return {sums_.low + 0.0f, sums_.high + 0.0f};  // one zero, whichever sign came first
}

at::Tensor ChannelSumsCollector::mean_abs() const {
  if (!wanted_.mean_abs) return {};
  return (sums_.magnitude / static_cast<double>(rows_)).to(at::kFloat);
}

at::Tensor ChannelSumsCollector::mean_square() const {
  if (!wanted_.mean_square) return {};
  return (sums_.square / static_cast<double>(rows_)).to(at::kFloat);
}

ChannelSumsCollector::Kurtosis ChannelSumsCollector::kurtosis() const {
  if (!wanted_.kurtosis) return {};
  const at::Tensor means =
      at::stack({sums_.first, sums_.square, sums_.third, sums_.fourth}) / static_cast<double>(rows_);
  const at::Tensor all = means.mean(1);
  return {kurtosis_of(means[0], means[1], means[2], means[3]).to(at::kFloat),
          kurtosis_of(all[0], all[1], all[2], all[3])};
}

}  // namespace lathe
