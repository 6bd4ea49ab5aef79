// FP64 sums of FP32 terms.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace lathe::kernels {

/// sum += terms. sum: Double, terms: Float; both contiguous, of one shape, on one device. (ATen's own
/// addition of mixed types goes through a converted copy on the CPU: four times the traffic.)
void accumulate(const at::Tensor& sum, const at::Tensor& terms);

/// The same of `rows` rows of `columns` elements on the CPU, by the calling thread: of row i those from
/// column i on alone where `upper`.
void accumulate_rows(double* sum, const float* terms, int64_t rows, int64_t columns, bool upper);

}  // namespace lathe::kernels
