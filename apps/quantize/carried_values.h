// Values that an artefact carries over from the checkpoint, which nothing computes with: a NaN among them
// would go on unseen.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "lib/tensor/dtype.h"

namespace lathe {

/// UserError naming the tensor for a NaN among its values, and for an infinity in a weight or a bias.
/// (Buffers, such as masks, may hold infinities.) piece: whole values of a tensor of this type; only F16,
/// BF16, F32 and F64 are looked at.
void check_carried_values(const std::string& name, DType dtype, std::span<const std::byte> piece);

}  // namespace lathe
