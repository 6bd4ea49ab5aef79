// attention_mask beside token ids, as tokenizers write it where they pad.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace lathe {

/// How many of `ids` ids count: the ones that `mask` starts with. UserError, `where` first, for a mask of
/// another length, values other than 0 and 1, and a one behind a zero (padding on the left or between texts):
/// samples of a calibration set are padded on the right alone.
int64_t count_attended(std::span<const int64_t> mask, size_t ids, const std::string& where);

}  // namespace lathe
