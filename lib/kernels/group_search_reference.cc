#include "lib/kernels/group_search_reference.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "lib/base/error.h"
#include "lib/kernels/group_grid.h"

namespace lathe::kernels {
namespace {

/// A smaller error by less than this, relatively, is FP32's rounding in the search that this one checks.
constexpr double kTie = 1e-6;

double rounding_error(const std::vector<double>& weights, const std::vector<double>& importance,
                      const device::ScaleZero& group, const Scheme& scheme) {
  const double scale = group.scale, zero = group.zero;
  double sum = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const double code =
        std::clamp(std::nearbyint(weights[i] / scale) + zero, 1.0 * scheme.qmin(), 1.0 * scheme.qmax());
    const double delta = scale * (code - zero) - weights[i];
    sum += delta * delta * (importance.empty() ? 1 : importance[i]);
  }
  return sum;
}

std::vector<double> doubles(const at::Tensor& values) {
  const at::Tensor copy = values.to(at::kDouble).contiguous();
  const double* const first = copy.const_data_ptr<double>();
  return {first, first + copy.numel()};
}

}  // namespace

std::vector<float> range_factors(const Scheme& scheme, const SearchSteps& search) {
  std::vector<float> wider, factors = {1};
  const double spacing = search.max_shrink / static_cast<double>(search.steps);
  const double codes = std::pow(2, scheme.bits);
  const double widest = scheme.symmetric ? (codes - 1) / (codes - 2) : 1;
  for (int64_t step = 1; 1 + spacing * static_cast<double>(step - 1) < widest; ++step)
    wider.push_back(static_cast<float>(std::min(1 + spacing * static_cast<double>(step), widest)));
  factors.insert(factors.end(), wider.rbegin(), wider.rend());
  for (int64_t step = 1; step <= search.steps; ++step)
    factors.push_back(static_cast<float>(1 - search.max_shrink * static_cast<double>(step) /
                                                 static_cast<double>(search.steps)));
  return factors;
}

RangeEnds search_group_reference(const std::vector<double>& weights, const std::vector<double>& importance,
                                 const Scheme& scheme, DType scale_dtype, const SearchSteps& search) {
  LATHE_ASSERT(scheme.float_grid() == nullptr && !scheme.scale_grid && !weights.empty(),
               "range reference: {}", scheme.describe());
  const auto [least, most] = std::minmax_element(weights.begin(), weights.end());
  const auto lo = static_cast<float>(*least), hi = static_cast<float>(*most);
  const device::Grid grid = grid_of(scheme, scale_dtype);
  double best = HUGE_VAL;
  float chosen = 1;
  for (const float factor : range_factors(scheme, search)) {
    const device::ScaleZero group = device::choose_scale_zero(lo * factor, hi * factor, grid);
    const double error = rounding_error(weights, importance, group, scheme);
    if (!(error < best * (1 - kTie))) continue;
    best = error;
    chosen = factor;
  }
  return {lo * chosen, hi * chosen};
}

GroupRange search_range_reference(const at::Tensor& weight, const at::Tensor& importance,
                                  const Scheme& scheme, DType scale_dtype, const SearchSteps& search) {
  const int64_t in = weight.size(1), length = scheme.group_length(in), groups = scheme.groups(in);
  GroupRange range{at::empty({weight.size(0), groups}, at::kFloat), {}};
  range.hi = at::empty_like(range.lo);
  for (int64_t row = 0; row < weight.size(0); ++row) {
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t first = group * length, end = first + length;
      const std::vector<double> weighted_by =
          importance.defined() ? doubles(importance.slice(0, first, end)) : std::vector<double>();
      const RangeEnds ends = search_group_reference(doubles(weight[row].slice(0, first, end)), weighted_by,
                                                    scheme, scale_dtype, search);
      range.lo[row][group] = ends.lo;
      range.hi[row][group] = ends.hi;
    }
  }
  return range;
}

}  // namespace lathe::kernels
