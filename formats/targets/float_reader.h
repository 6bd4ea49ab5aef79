// Floating-point tensors of a checkpoint, as FP32 or as they are stored.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
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
/// Copies `rows` of a matrix that lies in a mapped file into `values`, a few at a time: `release` lets the
/// pages that these brought into memory go. matrix [m, c]; rows Long [n], CPU; values [n, c], of any dtype.
void copy_mapped_rows(const at::Tensor& matrix, const at::Tensor& rows, const at::Tensor& values,
                      const std::function<void()>& release);
/// As read_float_tensor(), but in the file's own dtype.
at::Tensor read_stored_tensor(const Checkpoint& checkpoint, const std::string& name);

/// "<folder>/<file>: tensor 'name'", for errors.
std::string describe_tensor(const Checkpoint& checkpoint, const std::string& name);

/// Index of the first true element of a Bool tensor, "[3, 17]".
std::string first_index(const at::Tensor& mask);

}  // namespace lathe
