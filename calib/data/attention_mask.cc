#include "calib/data/attention_mask.h"

#include <algorithm>

#include "lib/base/error.h"

namespace lathe {

Attended attended(std::span<const int64_t> mask, size_t ids, const std::string& where) {
  if (mask.size() != ids)
    user_error("{}: expected one value for each of the {} token ids, found {}", where, ids, mask.size());
  const auto odd =
      std::find_if(mask.begin(), mask.end(), [](int64_t value) { return value != 0 && value != 1; });
  if (odd != mask.end())
    user_error("{}: element {}: expected 0 or 1, found {}", where, odd - mask.begin(), *odd);
  const auto first = std::find(mask.begin(), mask.end(), 1);
  const auto padding = std::find(first, mask.end(), 0);
  const auto again = std::find(padding, mask.end(), 1);
  if (again != mask.end()) {
    user_error(
        "{}: element {}: expected ones in one piece with padding before and behind it, found a 1 behind the "
        "0 "
        "of element {}; leave such ids out, or keep them in the context without counting them (token_weights "
        "of 0)",
        where, again - mask.begin(), padding - mask.begin());
  }
  return {first - mask.begin(), padding - first};
}

}  // namespace lathe
