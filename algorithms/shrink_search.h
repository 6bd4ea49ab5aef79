// The search that clipping ranges share: both ends of [min, max] are shrunk by one factor, and each group
// takes the factor with the smallest loss.
#pragma once

#include <functional>

#include "lib/numeric/quantized_tensor.h"

namespace lathe {

/// The factors 1 - max_shrink * i / steps, i = 0 .. steps.
struct ShrinkGrid {
  int64_t steps;
  double max_shrink;  // the largest part of a range that may be given up
};

/// `full` times each group's best factor. loss: of every group for a range of full's shape, as many values in
/// its order. The unshrunk range wins ties, so no group gets worse; one whose loss is NaN keeps its range.
GroupRange best_shrink(const GroupRange& full, const ShrinkGrid& grid,
                       const std::function<at::Tensor(const GroupRange&)>& loss);

}  // namespace lathe
