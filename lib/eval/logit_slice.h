#pragma once

#include <cstdint>

namespace lathe {

/// Logits alive at a time for one model, in values: 32 MB, whatever the vocabulary.
inline constexpr int64_t kLogitValues = int64_t{1} << 23;

}  // namespace lathe
