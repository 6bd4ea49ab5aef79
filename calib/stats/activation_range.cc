#include "calib/stats/activation_range.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "calib/stats/clip.h"
#include "calib/stats/clip_range.h"
#include "lib/base/error.h"
#include "lib/kernels/group_quant.h"

namespace lathe {
namespace {

struct Range {
  double low = 0, high = 0;
};

/// Of one group, in one wait for a GPU.
Range read(const MinMax& range) {
  const at::Tensor ends = at::cat({range.low, range.high}).cpu();
  return {ends[0].item<double>(), ends[1].item<double>()};
}

Range observed_range(const ActivationTask& task, const InputStats& stats) {
  if (task.observer.method == ActivationObserver::minmax) {
    LATHE_ASSERT(stats.min_max.defined(), "a static activation range needs minima and maxima");
    return read(grouped(stats.min_max, -1));
  }
  if (task.observer.method == ActivationObserver::ema) {
    LATHE_ASSERT(stats.step_min_max.defined(), "a static activation range needs the extremes of each step");
    return read(averaged(stats.step_min_max, -1, task.observer.averaging_constant));
  }
  LATHE_ASSERT(stats.distribution != nullptr, "a static activation range needs the distribution");
  const Distribution& values = *stats.distribution;
  const double q = task.observer.percentile / 100;
  if (task.observer.method == ActivationObserver::percentile && !task.scheme.symmetric)
    return {values.quantile(1 - q), values.quantile(q)};
  if (!task.scheme.symmetric) {
    const auto search = task.observer.method == ActivationObserver::mse ? mse_clip_range : entropy_clip_range;
    const ClipRange clip = search(signed_histogram(values), int64_t{1} << task.scheme.bits);
    return {clip.low, clip.high};
  }
  const FloatGridType* const floats = task.scheme.float_grid();
  const LevelGrid grid = floats == nullptr ? integer_levels(task.scheme.bits) : float_levels(floats->number);
  double end = 0;
  switch (task.observer.method) {
    case ActivationObserver::mse:
      end = range_end(mse_clip(magnitude_histogram(values), grid), grid);
      break;
    case ActivationObserver::kl:
      end = range_end(entropy_clip(magnitude_histogram(values), grid), grid);
      break;
    default:
      end = values.magnitude_quantile(q);
  }
  return {-end, end};
}

}  // namespace

const char* name_of(ActivationObserver observer) {
  static constexpr const char* kNames[] = {"minmax", "percentile", "mse", "kl", "ema"};
  return kNames[static_cast<int>(observer)];
}

std::optional<std::string> ActivationTask::problem() const {
  if (const auto reason = scheme.problem()) return reason;
  const bool clips = observer.method == ActivationObserver::mse || observer.method == ActivationObserver::kl;
  if (scheme.dynamic && scheme.calibrated() && clips) {
    return std::string("observer ") + name_of(observer.method) + " clips a tensor, but " + scheme.type +
           " scales each group to its own largest value; use observer minmax or percentile";
  }
  return std::nullopt;
}

StatSet ActivationTask::needs() const {
  if (!scheme.calibrated()) return {};
  const bool minmax = observer.method == ActivationObserver::minmax;
  const bool ema = observer.method == ActivationObserver::ema;
  return {.min_max = minmax, .step_min_max = ema, .distribution = !minmax && !ema};
}

InputQuantizer quantizer_for(const ActivationTask& task, const InputStats& stats, DType scale_dtype,
                             const std::string& where) {
  if (!task.scheme.calibrated()) return {.scheme = task.scheme};
  const Range range = observed_range(task, stats);
  Scheme grid = task.scheme.as_rows();
  if (grid.has_global_scale()) {
    const double end = std::max(std::abs(range.low), std::abs(range.high));
    return {.scheme = task.scheme,
            .scale = kernels::global_scale(at::full({}, end, at::kFloat)).item<float>()};
  }
  grid.group_size = -1;  // the arithmetic of a weight's group with one value a row
  const GroupRange ends{at::full({1, 1}, range.low, at::kFloat), at::full({1, 1}, range.high, at::kFloat)};
  const kernels::GroupParams params = kernels::group_params(ends, grid, scale_dtype);
  InputQuantizer quantizer{.scheme = task.scheme, .scale = params.scales.item<float>()};
  if (params.zero_points.defined()) quantizer.zero_point = params.zero_points.item<int>();
  if (!std::isfinite(quantizer.scale)) {
    user_error(
        "{}: its input's range, {:.3g} to {:.3g}, needs a scale beyond {}; use dynamic activations, or a "
        "transform that takes outliers out of them",
        where, range.low, range.high, name_of(scale_dtype));
  }
  return quantizer;
}

}  // namespace lathe
