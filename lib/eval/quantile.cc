#include "lib/eval/quantile.h"

#include <algorithm>
#include <cmath>

#include "lib/base/error.h"

namespace lathe {

double sorted_quantile(std::span<const double> values, double q) {
  LATHE_ASSERT(!values.empty() && q >= 0 && q <= 1, "quantile {} of {} values", q, values.size());
  const double position = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(std::floor(position));
  const size_t above = std::min(below + 1, values.size() - 1);
  return std::lerp(values[below], values[above], position - std::floor(position));
}

}  // namespace lathe
