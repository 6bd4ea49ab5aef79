// Groups as rows: a weight whose groups run along either axis as the matrix [groups, length] that the
// per-group kernels take, and back.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "lib/numeric/scheme.h"

namespace lathe {

/// weight [out, in] -> [groups, length], contiguous; a view where it can be. The groups are in the order of
/// Scheme::parameter_shape(), row-major.
at::Tensor to_group_rows(const at::Tensor& weight, const Scheme& scheme);
/// The inverse, contiguous.
at::Tensor from_group_rows(const at::Tensor& groups, const Scheme& scheme, int64_t out, int64_t in);
/// "row 3, group 1", for errors; `group` is a row of to_group_rows().
std::string name_of_group(const Scheme& scheme, int64_t in, int64_t group);

}  // namespace lathe
