#include "calib/stats/min_max.h"

#include <ATen/ATen.h>

#include <cmath>
#include <utility>

#include "lib/base/error.h"

namespace lathe {

namespace {

constexpr size_t kMostWaiting = 16;

/// sum of decay^(n-1-i) v_i over the rows of [n, width], FP64 [width].
at::Tensor decayed_sum(const at::Tensor& steps) {
  const int64_t last = steps.size(0) - 1;
  const at::Tensor age = at::arange(last, -1, -1, steps.options().dtype(at::kDouble));
  return (steps.to(at::kDouble) * at::pow(kEmaDecay, age).unsqueeze(1)).sum(0);
}

}  // namespace

void EmaMinMaxCollector::observe(const MinMax& chunk) {
  waiting_.push_back(chunk);
  if (waiting_.size() == kMostWaiting) fold();
}

void EmaMinMaxCollector::fold() {
  if (waiting_.empty()) return;
  std::vector<at::Tensor> lows, highs;
  for (const MinMax& step : waiting_) {
    lows.push_back(step.low);
    highs.push_back(step.high);
  }
  MinMax steps{at::stack(lows), at::stack(highs)};
  if (whole_) steps = {steps.low.amin(1, /*keepdim=*/true), steps.high.amax(1, /*keepdim=*/true)};
  const at::Tensor low = decayed_sum(steps.low), high = decayed_sum(steps.high);
  if (steps_ == 0) {
    first_ = {steps.low[0], steps.high[0]};
    low_sum_ = low;
    high_sum_ = high;
  } else {
    const double decay = std::pow(kEmaDecay, static_cast<double>(waiting_.size()));
    low_sum_ = low_sum_ * decay + low;
    high_sum_ = high_sum_ * decay + high;
  }
  steps_ += static_cast<int64_t>(waiting_.size());
  waiting_.clear();
}

void EmaMinMaxCollector::merge(EmaMinMaxCollector other) {
  fold();
  other.fold();
  if (other.steps_ == 0) return;
  if (steps_ == 0) {
    *this = std::move(other);
    return;
  }
  const double decay = std::pow(kEmaDecay, static_cast<double>(other.steps_));
  low_sum_ = low_sum_ * decay + other.low_sum_.to(low_sum_.device());
  high_sum_ = high_sum_ * decay + other.high_sum_.to(high_sum_.device());
  steps_ += other.steps_;
}

MinMax EmaMinMaxCollector::finish() {
  fold();
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
