#include "algorithms/group_rows.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

namespace lathe {

at::Tensor to_group_rows(const at::Tensor& weight, const Scheme& scheme) {
  const int64_t length = scheme.group_length(weight.size(0), weight.size(1));
  if (scheme.axis == 1) return weight.contiguous().view({-1, length});
  return weight.contiguous().view({length, -1}).t().contiguous();
}

at::Tensor from_group_rows(const at::Tensor& groups, const Scheme& scheme, int64_t out, int64_t in) {
  return (scheme.axis == 1 ? groups : groups.t()).contiguous().view({out, in});
}

std::string name_of_group(const Scheme& scheme, int64_t in, int64_t group) {
  if (scheme.axis == 0) return fmt::format("column {}, group {}", group % in, group / in);
  const int64_t groups = scheme.groups(in);
  return fmt::format("row {}, group {}", group / groups, group % groups);
}

}  // namespace lathe
