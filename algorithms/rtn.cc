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

#include <utility>

#include "algorithms/grid_choice.h"
#include "lib/kernels/group_quant.h"

namespace lathe {
namespace {

SolveResult encoded(const LinearProblem& linear, const GroupGrids& grids) {
  const at::Tensor codes = kernels::group_encode(linear.weight, grids.params, linear.scheme);
  QuantizedTensor result{linear.scheme, linear.scheme.scale_type(linear.scale_dtype), codes,
                         kernels::one_row_each(grids.params.scales, linear.scheme), grids.params.zero_points};
  result.global_scale = grids.params.global;
  return {std::move(result), {}};
}

class Rtn final : public Solver {
 public:
  explicit Rtn(const Options& options) : choice_(range_choice(options)) {}

  StatSet needs() const override { return {.mean_square = choice_.method == RangeMethod::weighted}; }

  Work work(const std::vector<int64_t>& rows, int64_t width, const Scheme& scheme) const override {
    return {.roundings = (1 + range_roundings(choice_, scheme)) * weights_of(rows, width)};
  }

  std::optional<std::string> refuses_groups(const Scheme&, int64_t length) const override {
    return range_refuses(choice_, length);
  }

  std::vector<SolveResult> solve(const SharedInputProblem& problem) const override {
    std::vector<LinearProblem> linears = problem.linears;
    for (LinearProblem& linear : linears) {
      check_scheme(linear);
      linear.weight = linear.weight.contiguous();
    }
    const bool weighted = choice_.method == RangeMethod::weighted;
    GridChoice choice(linears, choice_, weighted ? problem.stats->mean_square : at::Tensor());
    std::vector<GroupGrids> grids;
    for (const LinearProblem& linear : linears) grids.push_back(choice.of(linear));
    check_grids(linears, grids);
    std::vector<SolveResult> results;
    for (size_t k = 0; k < grids.size(); ++k) results.push_back(encoded(linears[k], grids[k]));
    return results;
  }

 private:
  RangeChoice choice_;
};

}  // namespace

const std::vector<OptionSpec>& rtn_options() { return range_options(); }

std::unique_ptr<Solver> make_rtn(const Options& options) { return std::make_unique<Rtn>(options); }

}  // namespace lathe
