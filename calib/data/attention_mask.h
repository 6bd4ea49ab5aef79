// attention_mask beside token ids, as tokenizers write it where they pad.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace lathe {

/// Ids of a row that are not padding: `length` of them from `begin` on.
struct Attended {
  int64_t begin = 0, length = 0;
  int64_t end() const { return begin + length; }
};

/// The ones of `mask`, which is beside `ids` ids and stand in one piece: padding is what lies before and
/// behind it. Where there is none, nothing from the end on. UserError, `where` first, for a mask of another
/// length, values other than 0 and 1, and ones in several pieces: the model would attend to what lies between
/// them, which the mask forbids.
Attended attended(std::span<const int64_t> mask, size_t ids, const std::string& where);

}  // namespace lathe
