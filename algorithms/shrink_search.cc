#include "algorithms/shrink_search.h"

#include <ATen/ATen.h>

namespace lathe {

GroupRange best_shrink(const GroupRange& full, const ShrinkGrid& grid,
                       const std::function<at::Tensor(const GroupRange&)>& loss) {
  at::Tensor best = loss(full), shrink = at::ones_like(full.lo);
  for (int64_t step = 1; step <= grid.steps; ++step) {
    const double factor = 1 - grid.max_shrink * static_cast<double>(step) / static_cast<double>(grid.steps);
    const at::Tensor found = loss({full.lo * factor, full.hi * factor});
    const at::Tensor better = found < best;
    best = at::where(better, found, best);
    shrink.masked_fill_(better.view(shrink.sizes()), factor);
  }
  return {full.lo * shrink, full.hi * shrink};
}

}  // namespace lathe
