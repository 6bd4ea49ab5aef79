// How often which values occur in an activation matrix: counts in the bins of device/value_bins.cuh. Computes
// on the device of its arguments; counts are integers, so CPU and CUDA agree exactly, whatever the order.
#pragma once

#include <ATen/core/Tensor.h>

namespace lathe::kernels {

/// Bins of a whole tensor's sketch, and of one channel's.
int64_t value_bin_count();
int64_t channel_bin_count();

/// Adds the values of x (contiguous [rows, width], Float; on CUDA Half and BFloat16, too) to counts, Long
/// [2, value_bin_count()]: row 0 counts the values that are not negative, row 1 the negative ones (by sign
/// bit).
void add_value_counts(const at::Tensor& x, at::Tensor& counts);

/// The same for the magnitudes of each channel; counts: Int [width, channel_bin_count()].
void add_channel_value_counts(const at::Tensor& x, at::Tensor& counts);

/// Minimum and maximum of each row, Float [rows].
struct RowExtent {
  at::Tensor low, high;
};
RowExtent row_extent(const at::Tensor& x);

}  // namespace lathe::kernels
