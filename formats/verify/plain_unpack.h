// Packed linears, taken apart by loops that follow the formats' definitions (the heads of the files in
// formats/targets) field by field, and share no line with the packers and readers there: two ways that a
// packer and its inverse can't be wrong in together.
#pragma once

#include <optional>
#include <string>

#include "formats/safetensors/checkpoint.h"
#include "lib/model/graph.h"
#include "lib/numeric/quantized_tensor.h"

namespace lathe {

/// Codes, scales and zero points as they stand in the file, whatever they are: nothing is refused but what
/// has no place in the tensor (a group index or column out of range), as UserError naming it. `scheme`: as
/// the reader has it. Nothing for formats that Lathe only reads. Without InputQuantizer. The checkpoint is
/// one whose tensors' names and shapes a reader has accepted.
std::optional<QuantizedTensor> unpack_plainly(const Checkpoint& checkpoint, const Linear& linear,
                                              const Scheme& scheme);

/// Where two of one linear first differ ("codes at [3, 17]: 5 and -2"); nothing where they are equal.
std::optional<std::string> difference(const QuantizedTensor& a, const QuantizedTensor& b);

}  // namespace lathe
