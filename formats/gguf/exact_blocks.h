// Solved codes as ggml blocks: the same numbers, bit for bit, or nothing.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "lib/numeric/ggml_type.h"
#include "lib/numeric/quantized_tensor.h"

namespace lathe {

/// The block type whose grid is this scheme's: Q4_0 for 4 bits symmetric, Q5_0 for 5, Q8_0 for 8, each with
/// groups of a multiple of 32 (a group's scale is written into each of its blocks). Nothing where there is
/// none.
std::optional<GgmlType> exact_type(const Scheme& scheme, int64_t columns);

/// Byte [out, row_bytes], CPU, of a tensor whose scheme has this exact_type(). Nothing where a scale is none
/// of F16, groups are in an order of their own, or outliers stand beside the codes.
std::optional<at::Tensor> exact_blocks(GgmlType type, const QuantizedTensor& tensor);

}  // namespace lathe
