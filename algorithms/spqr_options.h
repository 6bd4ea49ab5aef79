// What a person may choose about SpQR, shared by its fast path and its reference.
#pragma once

namespace lathe {

/// Which weights are kept beside the grid.
enum class OutlierRule {
  leave_one_out,  // those without which their group would lose so much less (the paper's algorithm 1)
  refined,        // grids are fitted without those; of all weights, those are kept that lose so much on them
  error           // those that lose so much on a grid that spans all (the paper's code: simplified_outliers)
};

}  // namespace lathe
