// Round to nearest: each group gets the grid that spans its range (what a transform offers, else its minimum
// and maximum, or a smaller range: weight_range.h), each weight the nearest point of it. No data needed. The
// base of every comparison, and the last step after transforms such as AWQ.
//
// Method. The uniform affine quantiser (Jacob et al., arXiv 1712.05877, section 2.1; Nagel et al., arXiv
// 2106.08295, section 2.2). A group with the range [lo, hi] and codes qmin .. qmax:
//
//     asymmetric:  s = (max(hi, 0) - min(lo, 0)) / (qmax - qmin),   z = clamp(round(qmin - min(lo, 0) / s))
//     symmetric:   s = 2 max(|lo|, |hi|) / (qmax - qmin),           z = 0
//     q = clamp(round(w / s) + z, qmin, qmax),   Q = s (q - z),
//
// ties to even. An asymmetric range is made to hold 0, which is then a point of the grid. On a symmetric one
// the upper end of n bits is half a step beyond the largest code: 7.5 steps to each side with codes -8 .. 7.
//
// On a floating-point grid (FP8, NVFP4, MX) the nearest point is the nearest number of the format times the
// scale; the largest magnitude of a group becomes the format's largest number. Scales that are codes
// themselves (NVFP4's E4M3, MX's E8M0) are searched among these codes by range mse and weighted, above the
// spanning one as well as below: E2M1 has no number between 4 and 6, so a group may be better off with its
// largest on 4. Linears that read one input share NVFP4's global scale, and FP8's scale of the tensor
// (tensor_scale.h). Where rows share scales, a range is chosen from all weights under one (shared_range.h).
//
// Cost: one pass over the weights, memory bound; 40 passes where the range is searched.
//
// Numerics: FP32; the scale is rounded to its stored type before codes are chosen, so that codes fit the
// scale that a consumer sees. Scales are stored in FP16 or BF16: a group of weights too large for its scale's
// type is refused, not saturated.
#include "algorithms/rtn.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "algorithms/group_grids.h"
#include "algorithms/shared_range.h"
#include "algorithms/tensor_scale.h"
#include "algorithms/weight_range.h"
#include "lib/kernels/group_quant.h"

namespace lathe {
namespace {

/// Of each per-tensor scheme among linears: the magnitude that its largest number stands for.
class TensorRanges {
 public:
  TensorRanges(const SharedInputProblem& problem, const RangeChoice& choice)
      : problem_(problem), choice_(choice), magnitude_(problem.linears) {}

  /// Undefined where the scheme has no scale of the tensor; the largest magnitude where that isn't chosen.
  at::Tensor of(const Scheme& scheme) {
    const at::Tensor largest = magnitude_.of(scheme, {});
    if (!scheme.per_tensor()) return largest;
    const auto known = std::ranges::find(ranges_, scheme, &std::pair<Scheme, at::Tensor>::first);
    if (known != ranges_.end()) return known->second;
    const at::Tensor importance = importance_of(problem_, choice_);
    ranges_.emplace_back(scheme, tensor_range(problem_.linears, scheme, choice_, importance, largest));
    return ranges_.back().second;
  }

  static at::Tensor importance_of(const SharedInputProblem& problem, const RangeChoice& choice) {
    return choice.method == RangeMethod::weighted ? problem.stats->mean_square : at::Tensor();
  }

 private:
  const SharedInputProblem& problem_;
  const RangeChoice& choice_;
  TensorMagnitude magnitude_;
  std::vector<std::pair<Scheme, at::Tensor>> ranges_;
};

/// A linear's weight, contiguous, its grids, and what the report should say of them.
struct Prepared {
  at::Tensor weight;
  GroupGrids grids;
};

/// end: TensorRanges::of().
Prepared prepared(const LinearProblem& linear, const at::Tensor& importance, const RangeChoice& choice,
                  const at::Tensor& end) {
  check_scheme(linear);
  const Scheme& scheme = linear.scheme;
  const at::Tensor weight = linear.weight.contiguous();
  if (linear.range) return {weight, grids_of(linear, offered_range(linear), end)};
  const auto with = [&](GroupRange range) {
    return Prepared{weight, grids_of(linear, std::move(range), end)};
  };
  if (scheme.per_tensor() || choice.method == RangeMethod::minmax)
    return with(kernels::group_min_max(weight, scheme));
  if (scheme.shares_rows())
    return with(block_range(weight, scheme, linear.scale_dtype, choice, linear.name, importance));
  return with(weight_range(weight, scheme, linear.scale_dtype, choice, linear.name, importance,
                           global_for(scheme, end)));
}

SolveResult encoded(const LinearProblem& linear, const at::Tensor& weight, const GroupGrids& grids) {
  const at::Tensor codes = kernels::group_encode(weight, grids.params, linear.scheme);
  QuantizedTensor result{linear.scheme, linear.scheme.scale_type(linear.scale_dtype), codes,
                         kernels::one_row_each(grids.params.scales, linear.scheme), grids.params.zero_points};
  result.global_scale = grids.params.global;
  return {std::move(result), {}};
}

class Rtn final : public Solver {
 public:
  explicit Rtn(const Options& options) : choice_(range_choice(options)) {}

  StatSet needs() const override { return {.mean_square = choice_.method == RangeMethod::weighted}; }

  std::optional<std::string> refuses_groups(int64_t length) const override {
    return range_refuses(choice_, length);
  }

  std::vector<SolveResult> solve(const SharedInputProblem& problem) const override {
    std::vector<at::Tensor> weights;
    std::vector<GroupGrids> grids;
    TensorRanges ranges(problem, choice_);
    const at::Tensor importance = TensorRanges::importance_of(problem, choice_);
    for (const LinearProblem& linear : problem.linears) {
      Prepared ready = prepared(linear, importance, choice_, ranges.of(linear.scheme));
      weights.push_back(std::move(ready.weight));
      grids.push_back(std::move(ready.grids));
    }
    check_grids(problem.linears, grids);
    std::vector<SolveResult> results;
    for (size_t k = 0; k < grids.size(); ++k)
      results.push_back(encoded(problem.linears[k], weights[k], grids[k]));
    return results;
  }

 private:
  RangeChoice choice_;
};

}  // namespace

const std::vector<OptionSpec>& rtn_options() { return range_options(); }

std::optional<std::string> rtn_refuses(const Scheme& scheme) {
  return scheme.float_grid() != nullptr ? std::nullopt : plain_grid(scheme);
}

std::unique_ptr<Solver> make_rtn(const Options& options) { return std::make_unique<Rtn>(options); }

}  // namespace lathe
