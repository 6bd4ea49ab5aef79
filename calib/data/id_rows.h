// Token ids that stand as raw integers in a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lathe {

/// An integer of 1, 2, 4 or 8 little-endian bytes.
struct IdFormat {
  int bytes = 8;
  bool is_signed = true;
};

/// `count` ids from `bytes`, which hold at least that many (InternalError otherwise); no alignment is asked
/// of them. An unsigned 64-bit id beyond int64 comes out negative, which no vocabulary holds.
std::vector<int64_t> read_ids(std::span<const std::byte> bytes, IdFormat format, int64_t count);

}  // namespace lathe
