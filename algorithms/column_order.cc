#include "algorithms/column_order.h"

#include <ATen/ATen.h>

namespace lathe {
namespace {

/// Along the last dimension, largest first.
at::Tensor falling(const at::Tensor& values) {
  return at::argsort(values, /*stable=*/true, /*dim=*/-1, /*descending=*/true);
}

at::Tensor group_aware(const at::Tensor& diagonal, int64_t group) {
  const at::Tensor groups = diagonal.view({-1, group});
  const at::Tensor within = falling(groups);
  const at::Tensor first = at::arange(groups.size(0), within.options()).mul_(group).unsqueeze(1);
  return (within + first).index_select(0, falling(groups.amax(1))).flatten();
}

}  // namespace

at::Tensor column_order(ActOrder order, const at::Tensor& diagonal, int64_t group) {
  switch (order) {
    case ActOrder::desc:
      return falling(diagonal);
    case ActOrder::gar:
      return group_aware(diagonal, group);
    case ActOrder::none:
      break;
  }
  return at::arange(diagonal.numel(), diagonal.options().dtype(at::kLong));
}

at::Tensor inverse_order(const at::Tensor& order) {
  at::Tensor inverse = at::empty_like(order);
  inverse.index_copy_(0, order, at::arange(order.numel(), order.options()));
  return inverse;
}

}  // namespace lathe
