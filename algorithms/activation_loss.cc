#include "algorithms/activation_loss.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "lib/base/error.h"
#include "lib/numeric/quadratic_form.h"

namespace lathe {
namespace {

/// Of the midpoint rule: the integrand is smooth, and its steep part spans a good part of the interval.
constexpr int64_t kPoints = 96;

/// Sum over rows of w^2, Double [in], a chunk of rows at a time.
at::Tensor column_squares(const at::Tensor& weight) {
  at::Tensor sum = at::zeros({weight.size(1)}, weight.options().dtype(at::kDouble));
  const int64_t step = rows_per_chunk(weight);
  for (int64_t row = 0; row < weight.size(0); row += step) {
    sum += weight.slice(0, row, row + step).square().sum(0, /*keepdim=*/false, at::kDouble);
  }
  return sum;
}

/// E[m] and E[m^2] of the largest of some variables that are not negative.
struct Moments {
  at::Tensor mean, square;  // Double scalars
};

/// deviation: Double [n], the normal distributions' before the cut; ends: Double [n] >= 0, where they are cut
/// off. magnitudes: of |u|; else of u where it is positive.
Moments largest_of(const at::Tensor& deviation, const at::Tensor& ends, bool magnitudes) {
  // Beyond it no channel has anything left: n e^-12 of it, or the cut.
  const double reach = std::sqrt(2 * std::log(static_cast<double>(deviation.numel())) + 24);
  const at::Tensor end = at::minimum(deviation.max() * reach, ends.max());
  const at::Tensor points = (at::arange(kPoints, deviation.options()) + 0.5) * (end / kPoints);
  const at::Tensor h = points.unsqueeze(1);
  at::Tensor below = at::erf(h / (deviation * std::sqrt(2.0)));
  if (!magnitudes) below = (below + 1) / 2;
  const at::Tensor above = 1 - below.masked_fill_(h.ge(ends), 1).prod(1);
  return {above.mean() * end, (2 * points * above).mean() * end};
}

}  // namespace

at::Tensor expected_square_span(const at::Tensor& mean_square, const MinMax& range, const at::Tensor& scales,
                                bool symmetric) {
  const at::Tensor divisor = scales.defined() ? scales.to(at::kDouble) : at::ones({}, at::kDouble);
  const at::Tensor inverse = divisor.reciprocal().to(mean_square.device());
  const at::Tensor deviation = mean_square.to(at::kDouble).sqrt() * inverse;
  const at::Tensor low = (-range.low).to(at::kDouble) * inverse, high = range.high.to(at::kDouble) * inverse;
  if (symmetric) return 4 * largest_of(deviation, at::maximum(low, high), true).square;
  const Moments top = largest_of(deviation, high.clamp_min(0), false);
  const Moments bottom = largest_of(deviation, low.clamp_min(0), false);
  return top.square + bottom.square + 2 * top.mean * bottom.mean;
}

ActivationLoss::ActivationLoss(const std::vector<LinearProblem>& linears, const InputStats& stats)
    : mean_square_(stats.gram.diagonal().contiguous()), range_(stats.min_max) {
  LATHE_ASSERT(range_.defined(), "activations' rounding error needs their range");
  for (const LinearProblem& linear : linears) {
    if (!linear.activations) continue;
    const at::Tensor squares = column_squares(linear.weight);
    const auto same =
        std::ranges::find(columns_, *linear.activations, &std::pair<ActivationScheme, at::Tensor>::first);
    if (same == columns_.end()) {
      columns_.emplace_back(*linear.activations, squares);
    } else {
      same->second = same->second + squares;
    }
  }
}

at::Tensor ActivationLoss::mean_squared_step(const ActivationScheme& scheme, const at::Tensor& scales) const {
  const double steps = scheme.qmax() - scheme.qmin();
  if (scheme.dynamic) {
    return expected_square_span(mean_square_, range_, scales, scheme.symmetric) / (steps * steps);
  }
  at::Tensor low = range_.low.to(at::kDouble), high = range_.high.to(at::kDouble);
  if (scales.defined()) low = low / scales, high = high / scales;
  const at::Tensor bottom = low.min().clamp_max(0), top = high.max().clamp_min(0);
  const at::Tensor span = scheme.symmetric ? 2 * at::maximum(-bottom, top) : top - bottom;
  return (span / steps).square();
}

at::Tensor ActivationLoss::on_device(const at::Tensor& scales) const {
  at::Tensor loss = at::zeros({}, mean_square_.options().dtype(at::kDouble));
  for (const auto& [scheme, squares] : columns_) {
    if (const FloatGridType* const grid = scheme.float_grid()) {
      const double relative = std::ldexp(3 / (8 * std::log(2.0)), -2 * grid->number.mantissa_bits);
      loss += relative / 12 * (squares * mean_square_.to(at::kDouble)).sum();
      continue;
    }
    const at::Tensor carried = scales.defined() ? squares * scales.to(at::kDouble).square() : squares;
    loss += mean_squared_step(scheme, scales) / 12 * carried.sum();
  }
  return loss;
}

}  // namespace lathe
