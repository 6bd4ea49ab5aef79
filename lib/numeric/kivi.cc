#include "lib/numeric/kivi.h"

#include <c10/util/Half.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace lathe {
namespace {

/// FP32 has more than twice FP16's digits and two: rounding a sum, product or quotient twice is rounding it
/// once.
float half(float x) { return static_cast<float>(static_cast<c10::Half>(x)); }

}  // namespace

KiviRange round_kivi_group(std::span<const float> values, int bits, std::span<float> out) {
  float least = std::numeric_limits<float>::infinity(), largest = -least;
  bool numbers = true;
  for (const float value : values) {
    const float x = half(value);
    numbers = numbers && !std::isnan(x);
    least = std::min(least, x);
    largest = std::max(largest, x);
  }
  if (!numbers) {
    std::ranges::fill(out, std::numeric_limits<float>::quiet_NaN());
    return {out.front(), out.front()};
  }
  const auto most = static_cast<float>((1 << bits) - 1);
  const float scale = half(half(largest - least) / most);
  for (size_t i = 0; i < values.size(); ++i) {
    const float steps = scale == 0 ? 0 : half(half(half(values[i]) - least) / scale);
    const float code = std::nearbyint(std::clamp(steps, 0.0f, most));
    out[i] = half(half(code * scale) + least);
  }
  return {scale, least};
}

}  // namespace lathe
