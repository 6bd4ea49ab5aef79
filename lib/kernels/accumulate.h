// FP64 sums of FP32 terms.
#pragma once

#include <ATen/core/Tensor.h>

namespace lathe::kernels {

/// sum += terms. sum: Double, terms: Float; both contiguous, of one shape, on one device. (ATen's own
/// addition of mixed types goes through a converted copy on the CPU: four times the traffic.)
void accumulate(const at::Tensor& sum, const at::Tensor& terms);

}  // namespace lathe::kernels
