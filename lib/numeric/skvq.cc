#include "lib/numeric/skvq.h"

#include <c10/util/Float8_e4m3fn.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cmath>

namespace lathe {
namespace {

float half(float x) { return static_cast<float>(static_cast<c10::Half>(x)); }

float stored(float x, bool fp8) {
  return fp8 ? static_cast<float>(static_cast<c10::Float8_e4m3fn>(std::clamp(x, -448.0f, 448.0f))) : x;
}

}  // namespace

void round_skvq_group(std::span<const float> values, float clip, int levels, bool fp8_scales,
                      std::span<float> out) {
  const auto [smallest, greatest] = std::ranges::minmax(values);
  const float least = half(half(smallest) * clip), largest = half(half(greatest) * clip);
  const auto most = static_cast<float>(levels - 1);
  const float scale = std::max(half(half(largest - least) / most), half(1e-5f));
  const float kept_scale = stored(scale, fp8_scales), kept_least = stored(least, fp8_scales);
  for (size_t i = 0; i < values.size(); ++i) {
    const float steps = half(half(half(values[i]) - least) / scale);
    out[i] = half(half(std::nearbyint(std::clamp(steps, 0.0f, most)) * kept_scale) + kept_least);
  }
}

}  // namespace lathe
