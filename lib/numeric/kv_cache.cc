#include "lib/numeric/kv_cache.h"

#include <cmath>
#include <limits>

#include "lib/base/error.h"

namespace lathe {

std::string KvCacheScheme::describe() const {
  return floating() ? "fp8 (e4m3) per tensor" : "int8 per tensor";
}

float kv_cache_scale(const KvCacheScheme& scheme, float largest) {
  LATHE_ASSERT(std::isfinite(largest) && largest >= 0, "KV cache: largest magnitude {}", largest);
  if (largest == 0) return 1;
  const auto scale = static_cast<float>(static_cast<double>(largest) / scheme.span());
  return scale > 0 ? scale : std::numeric_limits<float>::min();
}

}  // namespace lathe
