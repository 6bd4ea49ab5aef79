// How far the grids of a quantised matrix reach: what of its weights was clipped shows against that.
#pragma once

#include <optional>

#include "lib/numeric/quantized_tensor.h"

namespace lathe {

/// The largest |w| that a group's grid represents, over groups.
struct GridReach {
  double least = 0, median = 0, largest = 0;
};

/// Nothing of a matrix that has_values(). Outliers beside the grid don't count.
std::optional<GridReach> grid_reach(const QuantizedTensor& tensor);

}  // namespace lathe
