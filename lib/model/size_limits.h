// The largest sizes that a model's configuration may give: they keep every product of two in 64 bits, and a
// hostile file from making us build a giant graph.
#pragma once

#include <cstdint>

namespace lathe {

inline constexpr int64_t kLargestSize = int64_t{1} << 30;
inline constexpr int64_t kMostLayers = 1 << 16;

}  // namespace lathe
