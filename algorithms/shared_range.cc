#include "algorithms/shared_range.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "calib/stats/clip.h"
#include "calib/stats/distribution.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/kernels/device/group_search.cuh"
#include "lib/kernels/group_quant.h"
#include "lib/numeric/quadratic_form.h"

namespace lathe {
namespace {

/// The scheme of weights that are laid out with one group a row.
Scheme one_scale_a_row(Scheme scheme) {
  scheme.rows = 1;
  scheme.group_size = -1;
  return scheme;
}

/// Ranges of blocks that are all `height` rows high: [blocks, groups].
GroupRange whole_blocks(const at::Tensor& weight, int64_t height, const Scheme& scheme, DType scale_dtype,
                        const RangeChoice& choice, const std::string& name, const at::Tensor& importance) {
  const int64_t in = weight.size(1), length = scheme.group_length(in), groups = scheme.groups(in);
  Scheme flat = scheme;
  flat.rows = 1;
  flat.group_size = height * length;
  const at::Tensor laid_out =
      weight.view({-1, height, groups, length}).permute({0, 2, 1, 3}).reshape({-1, height * in});
  at::Tensor shares;
  if (importance.defined())
    shares = importance.view({groups, 1, length}).expand({groups, height, length}).reshape({-1});
  return weight_range(laid_out, flat, scale_dtype, choice, name, shares);
}

/// Visits all weights of a scheme, some rows at a time.
void for_each_rows(const std::vector<LinearProblem>& linears, const Scheme& scheme,
                   const std::function<void(const LinearProblem&, const at::Tensor& rows)>& visit) {
  for (const LinearProblem& linear : linears) {
    if (linear.scheme != scheme) continue;
    const int64_t step = rows_per_chunk(linear.weight);
    for (int64_t row = 0; row < linear.weight.size(0); row += step) {
      throw_if_cancelled();
      visit(linear, linear.weight.slice(0, row, row + step).contiguous());
    }
  }
}

Distribution distribution_of(const std::vector<LinearProblem>& linears, const Scheme& scheme,
                             double largest) {
  DistributionCollector collector;
  for_each_rows(linears, scheme,
                [&](const LinearProblem&, const at::Tensor& rows) { collector.observe(rows); });
  return collector.finish(-largest, largest);
}

at::Tensor searched(const std::vector<LinearProblem>& linears, const Scheme& scheme,
                    const RangeChoice& choice, const at::Tensor& importance, const at::Tensor& largest) {
  const Scheme rows_alone = one_scale_a_row(scheme);
  std::vector<at::Tensor> ends;
  for (int64_t step = 0; step <= choice.steps; ++step) {
    ends.push_back(largest * device::range_factor(step, choice.steps, choice.max_shrink));
  }
  const at::Tensor errors = at::zeros({choice.steps + 1}, largest.options().dtype(at::kDouble));
  for_each_rows(linears, scheme, [&](const LinearProblem& linear, const at::Tensor& rows) {
    for (size_t step = 0; step < ends.size(); ++step) {
      const at::Tensor end = ends[step].expand({rows.size(0), 1}).contiguous();
      const kernels::GroupParams params = kernels::group_params({-end, end}, rows_alone, linear.scale_dtype);
      at::Tensor error = kernels::group_fake_quantize(rows, params, rows_alone).sub_(rows).square_();
      if (importance.defined()) error.mul_(importance);
      errors[static_cast<int64_t>(step)] += error.sum(1).sum(at::kDouble);
    }
  });
  // The first, widest, of the least: argmin says nothing of ties.
  const at::Tensor places = at::arange(errors.size(0), errors.options().dtype(at::kLong));
  const at::Tensor best =
      at::where(errors == errors.min(), places, at::zeros_like(places).fill_(choice.steps)).min();
  return at::stack(ends).index_select(0, best.view({1})).squeeze(0);
}

}  // namespace

GroupRange block_range(const at::Tensor& weight, const Scheme& scheme, DType scale_dtype,
                       const RangeChoice& choice, const std::string& name, const at::Tensor& importance) {
  LATHE_ASSERT(scheme.rows > 1, "{}: {} has no blocks of rows", name, scheme.describe());
  const GroupRange own = kernels::group_min_max(weight, scheme);
  GroupRange range{at::empty_like(own.lo), at::empty_like(own.hi)};
  const int64_t out = weight.size(0), whole = out / scheme.rows * scheme.rows;
  const int64_t step = std::max<int64_t>(1, rows_per_chunk(weight) / scheme.rows) * scheme.rows;
  const auto choose = [&](int64_t begin, int64_t end, int64_t height) {
    throw_if_cancelled();
    const GroupRange found =
        whole_blocks(weight.slice(0, begin, end), height, scheme, scale_dtype, choice, name, importance);
    range.lo.slice(0, begin, end).copy_(found.lo.repeat_interleave(height, 0));
    range.hi.slice(0, begin, end).copy_(found.hi.repeat_interleave(height, 0));
  };
  for (int64_t row = 0; row < whole; row += step) choose(row, std::min(row + step, whole), scheme.rows);
  if (whole < out) choose(whole, out, out - whole);
  // A block with a bad value has no range; which row it is in is for the refusal to say.
  const at::Tensor bad = at::isnan(range.lo);
  return {at::where(bad, own.lo, range.lo), at::where(bad, own.hi, range.hi)};
}

at::Tensor tensor_range(const std::vector<LinearProblem>& linears, const Scheme& scheme,
                        const RangeChoice& choice, const at::Tensor& importance, const at::Tensor& largest) {
  LATHE_ASSERT(scheme.per_tensor() && largest.defined(), "{} has no scale of the tensor", scheme.describe());
  if (choice.method == RangeMethod::minmax) return largest;
  if (choice.method == RangeMethod::mse) return searched(linears, scheme, choice, {}, largest);
  if (choice.method == RangeMethod::weighted) {
    LATHE_ASSERT(importance.defined(), "range weighted got no importance of columns");
    return searched(linears, scheme, choice, importance, largest);
  }
  const double widest = largest.item<double>();
  if (!std::isfinite(widest)) return largest;
  const Distribution values = distribution_of(linears, scheme, widest);
  double end = 0;
  if (choice.method == RangeMethod::percentile) {
    end = values.magnitude_quantile(choice.percentile / 100);
  } else {
    end = entropy_clip(magnitude_histogram(values), float_levels(scheme.float_grid()->number)).magnitude;
  }
  return at::full_like(largest, std::min(end, widest));
}

}  // namespace lathe
