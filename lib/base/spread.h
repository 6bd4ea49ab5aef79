// Places that are spread evenly.
#pragma once

#include <cstdint>

namespace lathe {

/// The middle of part i of [0, size) in `parts` equal ones. Where size >= parts no two are the same.
inline int64_t middle_of(int64_t i, int64_t parts, int64_t size) { return (2 * i + 1) * size / (2 * parts); }

}  // namespace lathe
