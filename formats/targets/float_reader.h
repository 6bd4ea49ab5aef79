// Floating-point tensors of a checkpoint, as FP32 or as they are stored.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "formats/safetensors/checkpoint.h"

namespace lathe {

/// FP32, CPU, contiguous, a copy. F16, BF16 and F32 are converted exactly. UserError naming file and tensor
/// for another dtype, and with the index of the first value that is NaN or infinite.
/// At most a few MB of the file's pages stand in memory beside the copy.
at::Tensor read_float_tensor(const Checkpoint& checkpoint, const std::string& name);

/// The same for some rows of a matrix; `rows` is Long [n], CPU, each within the matrix. Only these are looked
/// at.
at::Tensor read_float_rows(const Checkpoint& checkpoint, const std::string& name, const at::Tensor& rows);
/// As read_float_tensor(), but in the file's own dtype.
at::Tensor read_stored_tensor(const Checkpoint& checkpoint, const std::string& name);

/// "<folder>/<file>: tensor 'name'", for errors.
std::string describe_tensor(const Checkpoint& checkpoint, const std::string& name);

/// Index of the first true element of a Bool tensor, "[3, 17]".
std::string first_index(const at::Tensor& mask);

}  // namespace lathe
