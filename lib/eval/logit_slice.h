// How many logits are looked at at a time.
#pragma once

#include <cstdint>

namespace lathe {

/// Of one model, in values: 32 MB, whatever the vocabulary.
inline constexpr int64_t kLogitValues = int64_t{1} << 23;

}  // namespace lathe
