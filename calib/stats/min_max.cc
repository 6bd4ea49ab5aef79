#include "calib/stats/min_max.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numeric>
#include <utility>

#include "lib/base/error.h"

namespace lathe {

namespace {

constexpr double kDecay = 1 - kAveragingConstant;

/// [steps, width].
MinMax stacked(const std::vector<MinMax>& steps) {
  std::vector<at::Tensor> lows, highs;
  for (const MinMax& step : steps) {
    lows.push_back(step.low);
    highs.push_back(step.high);
  }
  return {at::stack(lows), at::stack(highs)};
}

/// The extremes of groups of `group` columns.
MinMax of_groups(const MinMax& rows, int64_t group) {
  const auto view = [&](const at::Tensor& values) { return values.view({values.size(0), -1, group}); };
  return {view(rows.low).amin(2), view(rows.high).amax(2)};
}

/// sum of decay^(n-1-i) v_i over the rows of [n, width], FP64 [width].
at::Tensor decayed_sum(const at::Tensor& steps) {
  const int64_t last = steps.size(0) - 1;
  const at::Tensor age = at::arange(last, -1, -1, steps.options().dtype(at::kDouble));
  return (steps.to(at::kDouble) * at::pow(kDecay, age).unsqueeze(1)).sum(0);
}

}  // namespace

void EmaMinMaxCollector::observe(const MinMax& chunk) {
  waiting_.push_back(chunk);
  if (waiting_.size() == kMostWaitingSteps) fold();
}

void EmaMinMaxCollector::fold() {
  if (waiting_.empty()) return;
  const MinMax steps = stacked(waiting_);
  const at::Tensor low = decayed_sum(steps.low), high = decayed_sum(steps.high);
  if (steps_ == 0) {
    first_ = {steps.low[0], steps.high[0]};
    low_sum_ = low;
    high_sum_ = high;
  } else {
    const double decay = std::pow(kDecay, static_cast<double>(waiting_.size()));
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
  const double decay = std::pow(kDecay, static_cast<double>(other.steps_));
  low_sum_ = low_sum_ * decay + other.low_sum_.to(low_sum_.device());
  high_sum_ = high_sum_ * decay + other.high_sum_.to(high_sum_.device());
  steps_ += other.steps_;
}

MinMax EmaMinMaxCollector::finish() {
  fold();
  // The sum gives the first value the weight (1 - decay) decay^(n-1); as the start of the average it has
  // decay^(n-1), which is decay^n more.
  const double rest = std::pow(kDecay, static_cast<double>(steps_));
  const auto average = [&](const at::Tensor& sum, const at::Tensor& first) {
    return (sum * (1 - kDecay) + first.to(at::kDouble) * rest).to(at::kFloat);
  };
  return {average(low_sum_, first_.low), average(high_sum_, first_.high)};
}

void StepMinMaxCollector::observe(const MinMax& chunk) {
  waiting_.push_back(chunk);
  if (waiting_.size() == kMostWaitingSteps) fold();
}

void StepMinMaxCollector::fold() {
  if (waiting_.empty()) return;
  const MinMax groups = of_groups(stacked(waiting_), step_group(waiting_[0].low.size(0)));
  low_.push_back(groups.low);
  high_.push_back(groups.high);
  waiting_.clear();
}

void StepMinMaxCollector::merge(StepMinMaxCollector other) {
  fold();
  other.fold();
  for (size_t i = 0; i < other.low_.size(); ++i) {
    const c10::Device device = (low_.empty() ? other.low_ : low_)[0].device();
    low_.push_back(other.low_[i].to(device));
    high_.push_back(other.high_[i].to(device));
  }
}

MinMax StepMinMaxCollector::finish() {
  fold();
  return {at::cat(low_), at::cat(high_)};
}

int64_t step_group(int64_t width) { return std::gcd(width, int64_t{16}); }

MinMax averaged(const MinMax& steps, int64_t together, double constant) {
  const int64_t columns = steps.low.size(1), length = together == -1 ? columns : together;
  LATHE_ASSERT(length > 0 && columns % length == 0 && constant > 0 && constant <= 1,
               "averages by {} of {} of {} groups", constant, length, columns);
  const MinMax groups = of_groups(steps, length);
  const int64_t last = groups.low.size(0) - 1;
  // Each step's weight in e_n; the first one's is (1 - c)^n, since the average starts at it.
  const at::Tensor age = at::arange(last, -1, -1, groups.low.options().dtype(at::kDouble));
  at::Tensor weights = at::pow(1 - constant, age);
  weights.slice(0, 1).mul_(constant);
  const auto average = [&](const at::Tensor& values) {
    return (values.to(at::kDouble) * weights.unsqueeze(1)).sum(0).to(at::kFloat);
  };
  return {average(groups.low), average(groups.high)};
}

MinMax grouped(const MinMax& channels, int64_t group_size) {
  const int64_t width = channels.low.size(0), length = group_size == -1 ? width : group_size;
  LATHE_ASSERT(length > 0 && width % length == 0, "groups of {} in {} channels", length, width);
  return {channels.low.view({-1, length}).amin(1), channels.high.view({-1, length}).amax(1)};
}

at::Tensor largest_magnitudes(const MinMax& range) { return at::maximum(-range.low, range.high); }

}  // namespace lathe
