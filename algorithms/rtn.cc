// Round to nearest: each group gets the grid that spans its range (what a transform offers, else its minimum
// and maximum, or a smaller range: weight_range.h), each weight the nearest point of it. No data needed; one
// pass over the weights, memory bound; 40 passes where the range is searched. The base of every comparison,
// and the last step after transforms such as AWQ.
//
// Numerics: FP32; the scale is rounded to its stored type before codes are chosen, so that codes fit the
// scale that a consumer sees. Scales are stored in FP16 or BF16: a group of weights too large for its scale's
// type is refused, not saturated.
#include "algorithms/rtn.h"

#include <ATen/ATen.h>

#include "algorithms/weight_range.h"
#include "lib/base/error.h"
#include "lib/kernels/group_quant.h"

namespace lathe {
namespace {

/// Row and group of the first true element of a [out, groups] mask.
std::pair<int64_t, int64_t> first_group(const at::Tensor& mask) {
  const at::Tensor place = mask.nonzero()[0].cpu();
  return {place[0].item<int64_t>(), place[1].item<int64_t>()};
}

void check_range(const LinearProblem& linear, const GroupRange& range) {
  const at::Tensor bad = at::isfinite(range.lo).logical_and_(at::isfinite(range.hi)).logical_not_();
  if (!bad.any().item<bool>()) return;
  const auto [row, group] = first_group(bad);
  user_error("{}: row {}, group {} of the weight holds a NaN or an infinity; the checkpoint is damaged",
             linear.name, row, group);
}

void check_scales(const LinearProblem& linear, const GroupRange& range, const at::Tensor& scales) {
  const at::Tensor bad = at::isfinite(scales).logical_not_();
  if (!bad.any().item<bool>()) return;
  const auto [row, group] = first_group(bad);
  user_error(
      "{}: row {}, group {}: weights from {:g} to {:g} need a scale beyond {}; use more bits or BF16 scales",
      linear.name, row, group, range.lo[row][group].item<float>(), range.hi[row][group].item<float>(),
      name_of(linear.scale_dtype));
}

GroupRange range_of(const LinearProblem& linear, const at::Tensor& weight, const RangeChoice& choice) {
  if (!linear.range) return weight_range(weight, linear.scheme, linear.scale_dtype, choice, linear.name);
  const std::vector<int64_t> shape = {weight.size(0), linear.scheme.groups(weight.size(1))};
  LATHE_ASSERT(linear.range->lo.sizes() == shape && linear.range->hi.sizes() == shape,
               "{}: the offered range doesn't fit the weight", linear.name);
  return *linear.range;
}

SolveResult solve_linear(const LinearProblem& linear, const RangeChoice& choice) {
  if (const auto problem = linear.scheme.problem(linear.weight.size(1)))
    user_error("{}: {}", linear.name, *problem);
  const at::Tensor weight = linear.weight.contiguous();
  const GroupRange range = range_of(linear, weight, choice);
  check_range(linear, range);
  const kernels::GroupParams params = kernels::group_params(range, linear.scheme, linear.scale_dtype);
  check_scales(linear, range, params.scales);
  const at::Tensor codes = kernels::group_encode(weight, params, linear.scheme);
  return {QuantizedTensor{linear.scheme, linear.scale_dtype, codes, params.scales, params.zero_points}, {}};
}

class Rtn final : public Solver {
 public:
  explicit Rtn(const Options& options) : choice_(range_choice(options)) {}

  StatSet needs() const override { return {}; }

  std::vector<SolveResult> solve(const SharedInputProblem& problem) const override {
    std::vector<SolveResult> results;
    for (const LinearProblem& linear : problem.linears) results.push_back(solve_linear(linear, choice_));
    return results;
  }

 private:
  RangeChoice choice_;
};

}  // namespace

const std::vector<OptionSpec>& rtn_options() { return range_options(); }

std::unique_ptr<Solver> make_rtn(const Options& options) { return std::make_unique<Rtn>(options); }

}  // namespace lathe
