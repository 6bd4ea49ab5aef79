// Content hashes: for the ids that calibrated a run, and for comparing what was written with what was meant.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace lathe {

/// "xxh3-128:" and 32 hex digits: what `xxhsum -H2` prints for the same bytes.
std::string content_hash(std::span<const std::byte> bytes);

}  // namespace lathe
