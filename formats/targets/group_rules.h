// What formats of plain integer groups (GPTQ, AWQ) have in common: codes, one scale and one zero point a
// group, nothing beside them.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>

#include "formats/targets/target.h"

namespace lathe {

/// Why a linear's grid is more than that (another type, real zero points, scales that are codes, quantised
/// activations, F32 scales), or its groups don't divide its inputs; nothing if it is plain. `format` is named
/// in the reason.
std::optional<std::string> refuses_plain_groups(const PlannedLinear& linear, const std::string& format);

/// "group_size 24 can't be read ...", unless it is one of `sizes` or a whole row.
std::optional<std::string> refuses_group_size(const PlannedLinear& linear,
                                              std::initializer_list<int64_t> sizes, const char* reader);

}  // namespace lathe
