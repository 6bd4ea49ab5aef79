#include "calib/stats/min_max.h"

#include <ATen/ATen.h>

#include <cmath>

#include "lib/base/error.h"

namespace lathe {

void MinMaxCollector::extend(const MinMax& by) {
  if (!range_.defined()) {
    range_ = by;
    return;
  }
  range_ = {at::minimum(range_.low, by.low), at::maximum(range_.high, by.high)};
}

void MinMaxCollector::observe(const kernels::ChannelMoments& chunk) { extend({chunk.low, chunk.high}); }

void MinMaxCollector::merge(const MinMaxCollector& other) {
  if (!other.range_.defined()) return;
  const c10::Device device = range_.defined() ? range_.low.device() : other.range_.low.device();
  extend({other.range_.low.to(device), other.range_.high.to(device)});
}

MinMax MinMaxCollector::finish() const {
  return {range_.low + 0.0f, range_.high + 0.0f};  // one zero, whichever sign came first
}

void EmaMinMaxCollector::observe(const kernels::ChannelMoments& chunk) {
  const at::Tensor low = chunk.low.to(at::kDouble), high = chunk.high.to(at::kDouble);
  if (steps_ == 0) first_ = {chunk.low, chunk.high};
  low_sum_ = steps_ == 0 ? low : low_sum_ * kEmaDecay + low;
  high_sum_ = steps_ == 0 ? high : high_sum_ * kEmaDecay + high;
  ++steps_;
}

void EmaMinMaxCollector::merge(const EmaMinMaxCollector& other) {
  if (other.steps_ == 0) return;
  if (steps_ == 0) {
    *this = other;
    return;
  }
  const double decay = std::pow(kEmaDecay, static_cast<double>(other.steps_));
  low_sum_ = low_sum_ * decay + other.low_sum_.to(low_sum_.device());
  high_sum_ = high_sum_ * decay + other.high_sum_.to(high_sum_.device());
  steps_ += other.steps_;
}

MinMax EmaMinMaxCollector::finish() const {
  // The sum gives the first value the weight (1 - decay) decay^(n-1); as the start of the average it has
  // decay^(n-1), which is decay^n more.
  const double rest = std::pow(kEmaDecay, static_cast<double>(steps_));
  const auto average = [&](const at::Tensor& sum, const at::Tensor& first) {
    return (sum * (1 - kEmaDecay) + first.to(at::kDouble) * rest).to(at::kFloat);
  };
  return {average(low_sum_, first_.low), average(high_sum_, first_.high)};
}

MinMax grouped(const MinMax& channels, int64_t group_size) {
  const int64_t width = channels.low.size(0), length = group_size == -1 ? width : group_size;
  LATHE_ASSERT(length > 0 && width % length == 0, "groups of {} in {} channels", length, width);
  return {channels.low.view({-1, length}).amin(1), channels.high.view({-1, length}).amax(1)};
}

at::Tensor largest_magnitudes(const MinMax& range) { return at::maximum(-range.low, range.high); }

}  // namespace lathe
