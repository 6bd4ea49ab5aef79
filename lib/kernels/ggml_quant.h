// Rounds matrices to the block formats of ggml, one block at a time; ggml_quant_cpu.cc has the search.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "lib/numeric/ggml_type.h"

namespace lathe::kernels {

/// weight: FP32 [out, in], contiguous, on the CPU. importance: FP32 [in], E[x^2] of the linear's input (any
/// common factor; what an imatrix holds), or undefined: all columns count alike. Returns Byte [out,
/// row_bytes(type, in)].
///
/// The blocks minimise sum_i importance_i (w_i - value_i)^2, the diagonal of the layer's output error.
/// Deterministic, whatever the thread count. UserError naming `name` for a row that can't be cut into blocks,
/// a weight that is not finite or beyond F16, an importance that is negative or not finite. F32, F16 and BF16
/// round to nearest.
at::Tensor quantize_ggml(const std::string& name, const at::Tensor& weight, GgmlType type,
                         const at::Tensor& importance);

/// FP32 [out, columns] of Byte [out, row_bytes]; threads over rows.
at::Tensor dequantize_ggml(const at::Tensor& blocks, GgmlType type, int64_t columns);

namespace cpu {
/// rows x columns values, one block type; importance null: 1.
void quantize_ggml(const float* weight, const float* importance, int64_t rows, int64_t columns, GgmlType type,
                   uint8_t* out);
}  // namespace cpu

}  // namespace lathe::kernels
