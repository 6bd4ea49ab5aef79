#include "algorithms/group_grids.h"

#include <ATen/ATen.h>

#include "algorithms/tensor_scale.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

/// Row and group of the first true element of a [out, groups] mask.
std::pair<int64_t, int64_t> first_group(const at::Tensor& mask) {
  const at::Tensor place = mask.nonzero()[0].cpu();
  return {place[0].item<int64_t>(), place[1].item<int64_t>()};
}

/// Bool [2] on the device: is any range, is any scale not finite?
at::Tensor not_finite(const GroupGrids& grids) {
  const at::Tensor ranges = at::isfinite(grids.range.lo).logical_and_(at::isfinite(grids.range.hi));
  return at::stack({ranges.all(), at::isfinite(grids.params.scales).all()}).logical_not_();
}

[[noreturn]] void refuse_range(const LinearProblem& linear, const GroupRange& range) {
  const auto [row, group] =
      first_group(at::isfinite(range.lo).logical_and_(at::isfinite(range.hi)).logical_not_());
  user_error("{}: row {}, group {} of the weight holds a NaN or an infinity; the checkpoint is damaged",
             linear.name, row, group);
}

[[noreturn]] void refuse_scale(const LinearProblem& linear, const GroupGrids& grids) {
  const auto [row, group] = first_group(at::isfinite(grids.params.scales).logical_not_());
  user_error(
      "{}: row {}, group {}: weights from {:g} to {:g} need a scale beyond {}; use more bits or "
      "output.scale_dtype BF16",
      linear.name, row, group, grids.range.lo[row][group].item<float>(),
      grids.range.hi[row][group].item<float>(), name_of(linear.scale_dtype));
}

/// Of a scale that linears share: that of the largest weight is the one that needs it.
[[noreturn]] void refuse_shared_scale(const std::vector<LinearProblem>& linears, const Scheme& scheme) {
  const LinearProblem* largest = nullptr;
  double most = -1;
  std::string others;
  for (const LinearProblem& linear : linears) {
    if (linear.scheme != scheme) continue;
    const auto own = linear.weight.abs().max().item<double>();
    if (own > most) largest = &linear, most = own;
  }
  for (const LinearProblem& linear : linears) {
    if (&linear != largest && linear.scheme == scheme) others += (others.empty() ? "" : ", ") + linear.name;
  }
  const int64_t row = largest->weight.abs().amax(1).argmax().item<int64_t>();
  user_error(
      "{}: row {}: a weight of {:g} needs a scale of the tensor{} beyond {}; use output.scale_dtype BF16",
      largest->name, row, most, others.empty() ? "" : fmt::format(" (shared with {})", others),
      name_of(largest->scale_dtype));
}

}  // namespace

void check_scheme(const LinearProblem& linear) {
  if (const auto problem = linear.scheme.problem(linear.weight.size(1)))
    user_error("{}: {}", linear.name, *problem);
}

const GroupRange& offered_range(const LinearProblem& linear) {
  const std::vector<int64_t> shape = {linear.weight.size(0), linear.scheme.groups(linear.weight.size(1))};
  LATHE_ASSERT(linear.range && linear.range->lo.sizes() == shape && linear.range->hi.sizes() == shape,
               "{}: the offered range doesn't fit the weight", linear.name);
  return *linear.range;
}

GroupGrids grids_of(const LinearProblem& linear, GroupRange range, const at::Tensor& largest) {
  const kernels::GroupParams params = grids_for(range, linear.scheme, linear.scale_dtype, largest);
  return {std::move(range), params};
}

void check_grids(const std::vector<LinearProblem>& linears, const std::vector<GroupGrids>& grids) {
  LATHE_ASSERT(linears.size() == grids.size(), "{} grids for {} linears", grids.size(), linears.size());
  std::vector<at::Tensor> queued;
  for (const GroupGrids& each : grids) queued.push_back(not_finite(each));
  const at::Tensor flags = at::stack(queued).cpu();
  const bool* const bad = flags.const_data_ptr<bool>();
  bool spoiled = false;
  for (size_t k = 0; k < grids.size(); ++k) spoiled = spoiled || bad[2 * k];
  for (size_t k = 0; k < grids.size(); ++k) {
    if (bad[2 * k]) refuse_range(linears[k], grids[k].range);
    if (spoiled && has_tensor_scale(linears[k].scheme)) continue;  // its scale may be another's fault
    if (!bad[2 * k + 1]) continue;
    if (linears[k].scheme.per_tensor()) refuse_shared_scale(linears, linears[k].scheme);
    refuse_scale(linears[k], grids[k]);
  }
}

}  // namespace lathe
