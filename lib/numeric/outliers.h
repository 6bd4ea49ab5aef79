// What a quantised matrix may hold beside codes on a plain grid: weights kept in FP16, and scales that are
// codes themselves (SpQR).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace lathe {

/// Weights that are kept beside the grid: what is to be added to the values of their codes. Compressed rows,
/// columns ascending in each.
struct Outliers {
  at::Tensor row_offsets;  // Int [out + 1], from 0 to n
  at::Tensor columns;      // Int [n]
  at::Tensor values;       // Float [n], FP16 values

  int64_t count() const { return columns.numel(); }
  /// What they take: FP16 values, 16-bit columns, 32-bit offsets.
  uint64_t bytes() const { return 4 * static_cast<uint64_t>(columns.numel() + row_offsets.numel()); }
  /// Those of rows [begin, end).
  Outliers rows(int64_t begin, int64_t end) const;
  Outliers cpu() const;
  /// Adds them to a matrix of as many rows, Float [out, in].
  void add_to(const at::Tensor& matrix) const;
};

/// The nonzero values of a matrix, Float [out, in], rounded to FP16.
Outliers outliers_of(const at::Tensor& values);

/// Where scales and zero points are themselves quantised (Scheme::scale_grid): of row o and group g, in block
/// b = o / ScaleGrid::rows,
///   scales[o, g]      = fp16(fp16(scale_codes[o, g] - scale_zeros[b, g]) * scale_scales[b, g])
///   zero_points[o, g] = qmin + the same of zero_*.
/// The FP16 arithmetic is the consumer's.
struct SecondLevel {
  at::Tensor scale_codes, zero_codes;    // Byte [out, groups], 0 .. 2^bits - 1
  at::Tensor scale_scales, scale_zeros;  // Float [out / rows, groups], FP16 values
  at::Tensor zero_scales, zero_zeros;

  SecondLevel cpu() const;
};

}  // namespace lathe
