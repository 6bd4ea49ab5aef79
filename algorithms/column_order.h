// The order in which error feedback rounds the columns of a weight matrix.
#pragma once

#include <ATen/core/Tensor.h>

namespace lathe {

enum class ActOrder {
  none,  // as they stand
  desc,  // by falling diag(H), "desc_act": what matters most is rounded while all others can make up for it
  gar    // group by group: groups by their largest diag(H), columns of a group by their own ("group-aware
         // reordering", arXiv 2505.14638), so that each group's columns come one after the other
};

/// Long [in]: the column that is rounded k-th. diagonal: Float [in], of H; equal values keep their order.
/// group: columns that share a scale, a divisor of in.
at::Tensor column_order(ActOrder order, const at::Tensor& diagonal, int64_t group);

/// Long [in], with inverse[order[k]] = k.
at::Tensor inverse_order(const at::Tensor& order);

}  // namespace lathe
