#include "algorithms/weight_range.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "calib/stats/clip.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/kernels/group_quant.h"
#include "lib/numeric/quadratic_form.h"

namespace lathe {
namespace {

/// Some rows of a weight with one group a row: [rows * groups, length].
struct Groups {
  at::Tensor values;
  Scheme scheme;  // group_size -1
  DType scale_dtype;
  GroupRange full;  // [rows * groups, 1]
};

GroupRange within(const GroupRange& full, const at::Tensor& lo, const at::Tensor& hi) {
  return {at::maximum(full.lo, lo), at::minimum(full.hi, hi)};  // both keep a NaN
}

/// The value of rank ceil(q * length) in each row, [rows, 1].
at::Tensor row_quantile(const at::Tensor& values, double q) {
  const auto length = static_cast<double>(values.size(1));
  const auto rank = std::clamp(std::ceil(q * length), 1.0, length);
  return std::get<0>(values.kthvalue(static_cast<int64_t>(rank), 1, /*keepdim=*/true));
}

GroupRange percentile_range(const Groups& groups, double percentile) {
  const double q = percentile / 100;
  if (groups.scheme.symmetric) {
    const at::Tensor end = row_quantile(groups.values.abs(), q);
    return within(groups.full, -end, end);
  }
  // As many values are cut off below as above.
  return within(groups.full, -row_quantile(-groups.values, q), row_quantile(groups.values, q));
}

/// Each group's squared rounding error, [rows, 1].
at::Tensor squared_error(const Groups& groups, const GroupRange& range) {
  const kernels::GroupParams params = kernels::group_params(range, groups.scheme, groups.scale_dtype);
  at::Tensor delta = kernels::group_fake_quantize(groups.values, params, groups.scheme);
  return delta.sub_(groups.values).square_().sum(1, /*keepdim=*/true);
}

GroupRange mse_range(const Groups& groups, const RangeChoice& choice) {
  at::Tensor best = squared_error(groups, groups.full), shrink = at::ones_like(best);
  for (int64_t step = 1; step <= choice.steps; ++step) {
    const double factor =
        1 - choice.max_shrink * static_cast<double>(step) / static_cast<double>(choice.steps);
    const at::Tensor error = squared_error(groups, {groups.full.lo * factor, groups.full.hi * factor});
    const at::Tensor better = error < best;
    best = at::where(better, error, best);
    shrink.masked_fill_(better, factor);
  }
  return {groups.full.lo * shrink, groups.full.hi * shrink};
}

GroupRange kl_range(const Groups& groups) {
  const LevelGrid grid = integer_levels(groups.scheme.bits);
  const at::Tensor values = groups.values.cpu(), finite = at::isfinite(groups.full.lo).cpu();
  at::Tensor ends = at::zeros(finite.sizes(), values.options());
  const int64_t length = values.size(1);
  at::parallel_for(0, values.size(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      if (!finite.const_data_ptr<bool>()[row]) continue;
      const Histogram histogram = magnitude_histogram(values.const_data_ptr<float>() + row * length, length);
      ends.data_ptr<float>()[row] = static_cast<float>(entropy_clip(histogram, grid).magnitude);
    }
  });
  ends = ends.to(groups.values.device());
  return within(groups.full, -ends, ends);
}

GroupRange choose(const Groups& groups, const RangeChoice& choice) {
  switch (choice.method) {
    case RangeMethod::percentile:
      return percentile_range(groups, choice.percentile);
    case RangeMethod::mse:
      return mse_range(groups, choice);
    case RangeMethod::kl:
      return kl_range(groups);
    case RangeMethod::minmax:
      break;
  }
  return groups.full;
}

constexpr std::pair<const char*, RangeMethod> kMethods[] = {{"minmax", RangeMethod::minmax},
                                                            {"percentile", RangeMethod::percentile},
                                                            {"mse", RangeMethod::mse},
                                                            {"kl", RangeMethod::kl}};

}  // namespace

GroupRange weight_range(const at::Tensor& weight, const Scheme& scheme, DType scale_dtype,
                        const RangeChoice& choice, const std::string& name) {
  if (choice.method == RangeMethod::minmax) return kernels::group_min_max(weight, scheme);
  const int64_t in = weight.size(1), length = scheme.group_length(in), count = scheme.groups(in);
  if (choice.method == RangeMethod::kl && length < kShortestKlGroup) {
    user_error(
        "{}: range kl needs groups of at least {} weights for its histogram, not {}; use mse, or group_size "
        "-1",
        name, kShortestKlGroup, length);
  }
  GroupRange range{at::empty({weight.size(0), count}, weight.options()), {}};
  range.hi = at::empty_like(range.lo);
  const int64_t step = rows_per_chunk(weight);
  for (int64_t row = 0; row < weight.size(0); row += step) {
    throw_if_cancelled();
    Groups groups{weight.slice(0, row, row + step).view({-1, length}), scheme, scale_dtype, {}};
    groups.scheme.group_size = -1;
    groups.full = kernels::group_min_max(groups.values, groups.scheme);
    const GroupRange chosen = choose(groups, choice);
    range.lo.slice(0, row, row + step).copy_(chosen.lo.view({-1, count}));
    range.hi.slice(0, row, row + step).copy_(chosen.hi.view({-1, count}));
  }
  return range;
}

const std::vector<OptionSpec>& range_options() {
  static const std::vector<OptionSpec> options = {
      {"range",
       std::string("minmax"),
       "what a group's grid spans where no transform offers a range: all values, a percentile of them, the "
       "range with the least squared error, or (groups of 512 and more) with the least divergence",
       0,
       0,
       {"minmax", "percentile", "mse", "kl"}},
      {"percentile",
       99.9,
       "range percentile: of |w|, or of each end where the grid is asymmetric",
       50,
       100,
       {}},
      {"range_grid", int64_t{40}, "range mse: steps of the search", 1, 200, {}},
      {"max_shrink", 0.8, "range mse: largest part of a range that may be given up", 0.01, 0.95, {}},
  };
  return options;
}

RangeChoice range_choice(const Options& options) {
  RangeChoice choice;
  const std::string& word = options.word("range");
  const auto method = std::find_if(std::begin(kMethods), std::end(kMethods),
                                   [&](const auto& row) { return row.first == word; });
  LATHE_ASSERT(method != std::end(kMethods), "range '{}'", word);
  choice.method = method->second;
  choice.percentile = options.number("percentile");
  choice.steps = options.integer("range_grid");
  choice.max_shrink = options.number("max_shrink");
  return choice;
}

}  // namespace lathe
