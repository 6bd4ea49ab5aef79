// How often values of a linear's input lie beyond the grid that one static scale spans: an engine clips them.
#pragma once

#include <cstdint>

namespace lathe {

struct InputOverflow {
  int64_t values = 0;      // that were looked at
  int64_t overflowed = 0;  // those of them beyond the grid (kernels::input_reach())

  double share() const {
    return values == 0 ? 0 : static_cast<double>(overflowed) / static_cast<double>(values);
  }
  bool operator==(const InputOverflow&) const = default;
};

/// A larger share is worth a warning. The bound is ours: what a range at the 99.9th percentile clips, ten
/// times what `observer: percentile` does by default.
inline constexpr double kOverflowShare = 1e-3;

}  // namespace lathe
