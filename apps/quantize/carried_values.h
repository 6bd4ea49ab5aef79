// Values that an artefact carries over from the checkpoint, which nothing computes with: a NaN among them
// would go on unseen.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "formats/safetensors/checkpoint.h"

namespace lathe {

/// UserError naming file, tensor and element for a NaN among a tensor's values, and for an infinity in a
/// weight or a bias. (Buffers, such as masks, may hold infinities.) view: the tensor `name`; piece: whole
/// values of it, within its bytes; only F16, BF16, F32 and F64 are looked at.
void check_carried_values(const Checkpoint& checkpoint, const std::string& name, const TensorView& view,
                          std::span<const std::byte> piece);

}  // namespace lathe
