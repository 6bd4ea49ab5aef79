// Ranges of weights: what a group's grid spans where neither the data nor a transform says so.
//
// Problem. With a grid of 2^b points over [lo, hi], a weight within has a squared error of s^2 / 12 on
// average, s = (hi - lo) / (2^b - 1), and one beyond is off by its whole distance from the end. Few bits and
// long tails make it pay to give up the tails.
//
// Methods (Nagel et al., arXiv 2106.08295, section 3.1, "quantization range setting"):
//   - minmax: all values, no clipping error.
//   - percentile: the q-th of |w| where the grid is symmetric, else of either end (Wu et al., arXiv
//     2004.09602, "Calibration"). Values of the rank ceil(q n), no interpolation.
//   - mse: the factor f of both ends, lo f and hi f, with the least
//         sum_j (w_j - Q_f(w_j))^2
//     over f = 1 - max_shrink i / steps: lib/kernels/group_search.h.
//   - weighted: the least sum_j h_j (w_j - Q_f(w_j))^2, h_j = E[x_j^2]. That is the group's share of
//     E[(dw x)^2] = dw H dw^T where inputs are not correlated (H's off-diagonal 0; llama.cpp's importance
//     matrix). clip_search.h has all of a group's block of H.
//   - kl: the clip with the least divergence KL(P || Q) between the histogram of |w| and what the grid makes
//     of it (Migacz, "8-bit inference with TensorRT", GTC 2017): calib/stats/clip.h.
//
// What differs: mse is searched over shrunk ranges of one shape, not over both ends apart, and on symmetric
// grids over slightly wider ones, too, which give the largest weight a code (device::widest_factor()). The
// ends of percentile and kl are limited to the group's own. kl refuses groups shorter than 512, whose
// histogram would be noise; percentile those in which it would leave out no value.
//
// Cost. mse and weighted: steps + 1 roundings of each weight, in one pass over memory. percentile: one
// selection a group; kl: a histogram of 2048 bins a group, on the CPU.
//
// Numerics. FP32. Candidates are rounded with the scale in its stored type, so that what is compared is what
// a consumer sees. Sums in a fixed order: equal bits on every device and thread count. The full range wins
// ties. lib/kernels/group_search_reference.h is the search in FP64.
#include "algorithms/weight_range.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "calib/stats/clip.h"
#include "calib/stats/rank.h"
#include "lib/base/cancel.h"
#include "lib/base/error.h"
#include "lib/kernels/group_quant.h"
#include "lib/kernels/group_search.h"
#include "lib/numeric/quadratic_form.h"

namespace lathe {
namespace {

/// Some rows of a weight with one group a row: [rows * groups, length].
struct Groups {
  at::Tensor values;
  Scheme scheme;    // group_size that of a row
  GroupRange full;  // [rows * groups, 1]
};

GroupRange within(const GroupRange& full, const at::Tensor& lo, const at::Tensor& hi) {
  return {at::maximum(full.lo, lo), at::minimum(full.hi, hi)};  // both keep a NaN
}

/// The values of the quantile's rank, [rows, 1].
at::Tensor row_quantile(const at::Tensor& values, double q) {
  return std::get<0>(values.kthvalue(rank_of(q, values.size(1)), 1, /*keepdim=*/true));
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

GroupRange kl_range(const Groups& groups) {
  const FloatGridType* const floats = groups.scheme.float_grid();
  const LevelGrid grid =
      floats == nullptr ? integer_levels(groups.scheme.bits) : float_levels(floats->number);
  const at::Tensor values = groups.values.cpu(), finite = at::isfinite(groups.full.lo).cpu();
  at::Tensor ends = at::zeros(finite.sizes(), values.options());
  const int64_t length = values.size(1);
  at::parallel_for(0, values.size(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      if (!finite.const_data_ptr<bool>()[row]) continue;
      const Histogram histogram = magnitude_histogram(values.const_data_ptr<float>() + row * length, length);
      const Clip clip = entropy_clip(histogram, grid);
      ends.data_ptr<float>()[row] =
          static_cast<float>(groups.scheme.symmetric ? range_end(clip, grid) : clip.magnitude);
    }
  });
  ends = ends.to(groups.values.device());
  return within(groups.full, -ends, ends);
}

GroupRange choose(const Groups& groups, const RangeChoice& choice) {
  switch (choice.method) {
    case RangeMethod::percentile:
      return percentile_range(groups, choice.percentile);
    case RangeMethod::kl:
      return kl_range(groups);
    default:
      break;
  }
  return groups.full;
}

constexpr RangeMethodRow kMethods[] = {
    {RangeMethod::minmax, "minmax", "the smallest and the largest value of each group"},
    {RangeMethod::percentile, "percentile",
     "all values but a part of them at the ends (at the default 99.9, groups of 1000 and more)"},
    {RangeMethod::mse, "mse", "the range with the least squared rounding error"},
    {RangeMethod::weighted, "weighted",
     "the range with the least squared rounding error, each input weighted by its mean square"},
    {RangeMethod::kl, "kl",
     "the range with the least divergence of the values' distribution (groups of 512 and more)"}};

std::vector<std::string> method_names() {
  std::vector<std::string> names;
  for (const RangeMethodRow& row : kMethods) names.emplace_back(row.name);
  return names;
}

}  // namespace

std::span<const RangeMethodRow> range_methods() { return kMethods; }

std::optional<std::string> range_refuses(const RangeChoice& choice, int64_t length) {
  if (choice.method == RangeMethod::kl && length < kShortestKlGroup) {
    return fmt::format(
        "range kl needs groups of at least {} weights for its histogram, not {}; use mse, or group_size -1",
        kShortestKlGroup, length);
  }
  if (choice.method != RangeMethod::percentile || rank_of(choice.percentile / 100, length) < length)
    return std::nullopt;
  const double largest = std::floor(10000 * (1 - 1 / static_cast<double>(length)) + 1e-6) / 100;
  return fmt::format(
      "range percentile with percentile {:g} leaves out less than one value of a group of {} weights, so it "
      "is "
      "minmax; set percentile to at most {:g}, or use longer groups or range mse",
      choice.percentile, length, largest);
}

double range_roundings(const RangeChoice& choice, const Scheme& scheme) {
  if (choice.method != RangeMethod::mse && choice.method != RangeMethod::weighted) return 0;
  return static_cast<double>(kernels::searched_ranges(scheme, choice.steps, choice.max_shrink));
}

GroupRange weight_range(const at::Tensor& weight, const Scheme& scheme, DType scale_dtype,
                        const RangeChoice& choice, const std::string& name, const at::Tensor& importance,
                        const at::Tensor& global) {
  if (choice.method == RangeMethod::minmax) return kernels::group_min_max(weight, scheme);
  const int64_t in = weight.size(1), length = scheme.group_length(in), count = scheme.groups(in);
  LATHE_ASSERT(!scheme.shares_rows(), "{}: {} has rows that share scales (shared_range.h)", name,
               scheme.describe());
  if (const auto reason = range_refuses(choice, length)) user_error("{}: {}", name, *reason);
  if (choice.method == RangeMethod::mse || choice.method == RangeMethod::weighted) {
    const bool weighted = choice.method == RangeMethod::weighted;
    LATHE_ASSERT(!weighted || importance.defined(), "{}: range weighted got no importance of columns", name);
    return kernels::search_range(weight, weighted ? importance : at::Tensor(), scheme, scale_dtype,
                                 choice.steps, choice.max_shrink, global);
  }
  GroupRange range{at::empty({weight.size(0), count}, weight.options()), {}};
  range.hi = at::empty_like(range.lo);
  const int64_t step = rows_per_chunk(weight);
  for (int64_t row = 0; row < weight.size(0); row += step) {
    throw_if_cancelled();
    Groups groups{weight.slice(0, row, row + step).view({-1, length}), scheme, {}};
    groups.scheme.group_size = length;
    groups.full = kernels::group_min_max(groups.values, groups.scheme);
    const GroupRange chosen = choose(groups, choice);
    range.lo.slice(0, row, row + step).copy_(chosen.lo.view({-1, count}));
    range.hi.slice(0, row, row + step).copy_(chosen.hi.view({-1, count}));
  }
  return range;
}

const std::vector<OptionSpec>& range_options() {
  static const std::vector<OptionSpec> options = {
      {"range", std::string("minmax"),
       "what a group's grid spans where no transform offers a range: all values, a percentile of them, the "
       "range with the least squared error, plain or weighted by the inputs' mean squares, or (groups of 512 "
       "and more) with the least divergence",
       0, 0, method_names()},
      {"percentile",
       99.9,
       "range percentile: of |w|, or of each end where the grid is asymmetric; groups of n weights need at "
       "most "
       "100 * (1 - 1 / n)",
       50,
       100,
       {},
       {"range", "percentile"}},
      {"range_grid",
       int64_t{40},
       "range mse and weighted: steps of the search",
       1,
       200,
       {},
       {"range", "mse", "weighted"}},
      {"max_shrink",
       0.5,
       "range mse and weighted: largest part of a range that may be given up",
       0.01,
       0.95,
       {},
       {"range", "mse", "weighted"}},
  };
  return options;
}

RangeChoice range_choice(const Options& options) {
  RangeChoice choice;
  const std::string& word = options.word("range");
  const auto row = std::ranges::find_if(kMethods, [&](const RangeMethodRow& r) { return r.name == word; });
  LATHE_ASSERT(row != std::end(kMethods), "range '{}'", word);
  choice.method = row->method;
  choice.percentile = options.number("percentile");
  choice.steps = options.integer("range_grid");
  choice.max_shrink = options.number("max_shrink");
  return choice;
}

}  // namespace lathe
