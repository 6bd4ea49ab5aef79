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

/// A linear's grids.
struct Grids {
  at::Tensor weight;  // contiguous
  GroupRange range;
  kernels::GroupParams params;
};

/// Bool [2] on the device: is any range, is any scale not finite?
at::Tensor not_finite(const Grids& grids) {
  const at::Tensor ranges = at::isfinite(grids.range.lo).logical_and_(at::isfinite(grids.range.hi));
  return at::stack({ranges.all(), at::isfinite(grids.params.scales).all()}).logical_not_();
}

[[noreturn]] void refuse_range(const LinearProblem& linear, const GroupRange& range) {
  const auto [row, group] =
      first_group(at::isfinite(range.lo).logical_and_(at::isfinite(range.hi)).logical_not_());
  user_error("{}: row {}, group {} of the weight holds a NaN or an infinity; the checkpoint is damaged",
             linear.name, row, group);
}

[[noreturn]] void refuse_scale(const LinearProblem& linear, const Grids& grids) {
  const auto [row, group] = first_group(at::isfinite(grids.params.scales).logical_not_());
  user_error(
      "{}: row {}, group {}: weights from {:g} to {:g} need a scale beyond {}; use more bits or BF16 scales",
      linear.name, row, group, grids.range.lo[row][group].item<float>(),
      grids.range.hi[row][group].item<float>(), name_of(linear.scale_dtype));
}

/// Waits for the device once, for all linears.
void check_grids(const std::vector<LinearProblem>& linears, const std::vector<Grids>& grids) {
  std::vector<at::Tensor> queued;
  for (const Grids& each : grids) queued.push_back(not_finite(each));
  const at::Tensor flags = at::stack(queued).cpu();
  const bool* const bad = flags.const_data_ptr<bool>();
  for (size_t k = 0; k < grids.size(); ++k) {
    if (bad[2 * k]) refuse_range(linears[k], grids[k].range);
    if (bad[2 * k + 1]) refuse_scale(linears[k], grids[k]);
  }
}

GroupRange range_of(const LinearProblem& linear, const at::Tensor& weight, const RangeChoice& choice) {
  if (!linear.range) return weight_range(weight, linear.scheme, linear.scale_dtype, choice, linear.name);
  const std::vector<int64_t> shape = {weight.size(0), linear.scheme.groups(weight.size(1))};
  LATHE_ASSERT(linear.range->lo.sizes() == shape && linear.range->hi.sizes() == shape,
               "{}: the offered range doesn't fit the weight", linear.name);
  return *linear.range;
}

Grids grids_of(const LinearProblem& linear, const RangeChoice& choice) {
  if (const auto problem = linear.scheme.problem(linear.weight.size(1)))
    user_error("{}: {}", linear.name, *problem);
  Grids grids{linear.weight.contiguous(), {}, {}};
  grids.range = range_of(linear, grids.weight, choice);
  grids.params = kernels::group_params(grids.range, linear.scheme, linear.scale_dtype);
  return grids;
}

SolveResult encoded(const LinearProblem& linear, const Grids& grids) {
  const at::Tensor codes = kernels::group_encode(grids.weight, grids.params, linear.scheme);
  return {QuantizedTensor{linear.scheme, linear.scale_dtype, codes, grids.params.scales,
                          grids.params.zero_points},
          {}};
}

class Rtn final : public Solver {
 public:
  explicit Rtn(const Options& options) : choice_(range_choice(options)) {}

  StatSet needs() const override { return {}; }

  std::vector<SolveResult> solve(const SharedInputProblem& problem) const override {
    std::vector<Grids> grids;
    for (const LinearProblem& linear : problem.linears) grids.push_back(grids_of(linear, choice_));
    check_grids(problem.linears, grids);
    std::vector<SolveResult> results;
    for (size_t k = 0; k < grids.size(); ++k) results.push_back(encoded(problem.linears[k], grids[k]));
    return results;
  }

 private:
  RangeChoice choice_;
};

}  // namespace

const std::vector<OptionSpec>& rtn_options() { return range_options(); }

std::unique_ptr<Solver> make_rtn(const Options& options) { return std::make_unique<Rtn>(options); }

}  // namespace lathe
