#include "calib/data/token_weights.h"

#include <algorithm>

#include "lib/base/error.h"

namespace lathe {

void check_token_weights(std::span<const float> weights, const std::string& where) {
  const auto bad = std::ranges::find_if_not(weights, is_token_weight);
  if (bad == weights.end()) return;
  user_error("{}: element {}: expected 1e-6 to 1e6, or 0 for tokens that should not count, found {}", where,
             bad - weights.begin(), *bad);
}

}  // namespace lathe
