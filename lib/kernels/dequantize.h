// The values of a quantised matrix's codes in one pass, on the device of its codes. Bit for bit what
// QuantizedTensor::dequantize() gives, which is the reference and takes libtorch's operations one after the
// other; its rules for arguments hold.
#pragma once

#include "lib/numeric/distortion.h"
#include "lib/numeric/quantized_tensor.h"

namespace lathe::kernels {

/// FP32 [out, in].
at::Tensor dequantize(const QuantizedTensor& tensor);

/// The weight that multiplies the linear's input as it is: where the codes are of a rotated one
/// (Scheme::hadamard), rotated back. FP32 [out, in].
at::Tensor dequantized_weight(const QuantizedTensor& tensor);

/// dequantize() of rows [begin, end), [end - begin, in].
at::Tensor dequantize_rows(const QuantizedTensor& tensor, int64_t begin, int64_t end);

/// dequantize_rows() of a tensor that outlives what is returned.
MatrixRows dequantized_rows(const QuantizedTensor& tensor);

}  // namespace lathe::kernels
