#include "calib/data/attention_mask.h"

#include <algorithm>

#include "lib/base/error.h"

namespace lathe {

int64_t count_attended(std::span<const int64_t> mask, size_t ids, const std::string& where) {
  if (mask.size() != ids)
    user_error("{}: expected one value for each of the {} token ids, found {}", where, ids, mask.size());
  const auto odd =
      std::find_if(mask.begin(), mask.end(), [](int64_t value) { return value != 0 && value != 1; });
  if (odd != mask.end())
    user_error("{}: element {}: expected 0 or 1, found {}", where, odd - mask.begin(), *odd);
  const auto padding = std::find(mask.begin(), mask.end(), 0);
  const auto again = std::find(padding, mask.end(), 1);
  if (again != mask.end()) {
    user_error(
        "{}: element {}: expected ones followed by zeros, found a 1 behind the 0 of element {}; pad on the "
        "right, or leave the padding out",
        where, again - mask.begin(), padding - mask.begin());
  }
  return padding - mask.begin();
}

}  // namespace lathe
