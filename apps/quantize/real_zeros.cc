#include "apps/quantize/real_zeros.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "formats/targets/float_reader.h"
#include "lib/base/error.h"
#include "lib/numeric/integer_zeros.h"

namespace lathe {
namespace {

/// Those that are to change.
std::vector<LinearPlan*> with_real_zeros(Plan& plan) {
  std::vector<LinearPlan*> found;
  for (auto& block : plan.blocks) {
    for (LinearPlan& linear : block)
      if (linear.quantized && linear.scheme.real_zero) found.push_back(&linear);
  }
  if (plan.lm_head.quantized && plan.lm_head.scheme.real_zero) found.push_back(&plan.lm_head);
  return found;
}

/// hqq's files give the length of groups, also of those that are whole rows, which others call channels. A
/// length is one of channels where it is the row of each linear that has it.
void name_channels(const std::vector<LinearPlan*>& linears) {
  std::map<int64_t, bool> whole;
  for (const LinearPlan* linear : linears) {
    const int64_t length = linear->scheme.group_size;
    const auto [entry, first] = whole.emplace(length, true);
    entry->second = entry->second && linear->scheme.axis == 1 && length == linear->linear->in;
  }
  for (LinearPlan* linear : linears)
    if (whole.at(linear->scheme.group_size)) linear->scheme.group_size = -1;
}

}  // namespace

void RealZeros::note(const std::string& where, const std::string& linear, const QuantizedTensor& tensor) {
  if (!tensor.scheme.real_zero) return;
  const Scheme& scheme = tensor.scheme;
  // A grid of 1 bit has no symmetric form.
  if (scheme.bits == 1 || tensor.zero_points.ne(0).any().item<bool>()) asymmetric_.insert(scheme.bits);
  if (!off_grid_.empty()) return;
  const at::Tensor bad = off_grid_zeros(tensor);
  if (!bad.any().item<bool>()) return;
  off_grid_ =
      fmt::format("{}: '{}': the zero point at {} ({}) is {:g}: expected an integer from 0 to {}", where,
                  linear, first_index(bad), scheme.axis == 1 ? "output, group" : "group, input",
                  tensor.zero_points.masked_select(bad)[0].item<float>() - static_cast<float>(scheme.qmin()),
                  scheme.qmax() - scheme.qmin());
}

void RealZeros::fit(Plan& plan, const Destination& to) const {
  const std::vector<LinearPlan*> linears = with_real_zeros(plan);
  const bool held = to.refuses && std::ranges::none_of(linears, [&](const LinearPlan* linear) {
                      return to.refuses(plan.planned(*linear)).has_value();
                    });
  if (linears.empty() || held) return;
  if (!off_grid_.empty())
    user_error("{}, which {} could hold; quantise the model anew for it", off_grid_, to.name);
  for (LinearPlan* linear : linears) {
    linear->scheme.real_zero = false;
    linear->scheme.symmetric = !asymmetric_.contains(linear->scheme.bits);
  }
  name_channels(linears);
}

QuantizedTensor fit_zeros(QuantizedTensor tensor, const Scheme& planned) {
  if (!tensor.scheme.real_zero || planned.real_zero) return tensor;
  QuantizedTensor fitted = with_integer_zeros(std::move(tensor), planned.symmetric);
  fitted.scheme.group_size = planned.group_size;
  return fitted;
}

}  // namespace lathe
