// The unpacked truth about one quantised weight matrix: codes, scales, zero points. No byte layout in it.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "lib/numeric/scheme.h"

namespace lathe {

/// Which values of a group its grid has to span: [lo, hi] per row and group. A transform may offer one (AWQ's
/// clip); a solver may use it in place of the plain minimum and maximum.
struct GroupRange {
  at::Tensor lo;  // FP32 [out, groups]
  at::Tensor hi;  // FP32 [out, groups]
};

/// Where scales and zero points are themselves quantised (Scheme::scale_grid): of row o and group g, in block
/// b = o / ScaleGrid::rows,
///   scales[o, g]      = fp16(fp16(scale_codes[o, g] - scale_zeros[b, g]) * scale_scales[b, g])
///   zero_points[o, g] = qmin + the same of zero_*.
/// The FP16 arithmetic is the consumer's.
struct SecondLevel {
  at::Tensor scale_codes, zero_codes;    // Byte [out, groups], 0 .. 2^bits - 1
  at::Tensor scale_scales, scale_zeros;  // Float [out / rows, groups], FP16 values
  at::Tensor zero_scales, zero_zeros;
};

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
  /// Adds them to a matrix of as many rows, Float [out, in].
  void add_to(const at::Tensor& values) const;
};

/// The nonzero values of a matrix, Float [out, in], rounded to FP16.
Outliers outliers_of(const at::Tensor& values);

/// w[o, i] ~ scales[o, k] * (codes[o, i] - zero_points[o, k]) + its outlier, if it is one; k is the group of
/// column i: i / g, or group_index[i]. Where the scheme's groups run along axis 0, scales[o % G, i] and
/// zero_points[o % G, i], G = out / g.
/// P: Scheme::parameter_shape(), which is [out, groups].
struct QuantizedTensor {
  Scheme scheme;
  DType scale_dtype =
      DType::F16;     // type of the scales on disk; every value in `scales` is representable in it
  at::Tensor codes;   // Char [out, in], in [qmin, qmax]
  at::Tensor scales;  // Float P, finite, > 0 (with a second level >= 0)
  /// Char P in [qmin, qmax]; where the scheme's are real Float P, finite, and less qmin representable in
  /// scale_dtype (files count codes from 0). Undefined where the scheme is symmetric.
  at::Tensor zero_points;
  at::Tensor group_index = {};  // Int [in] in [0, groups), each group g times (g_idx); undefined: i / g
  std::optional<SecondLevel> second_level = {};  // with Scheme::scale_grid; zero_points are then Float
  std::optional<Outliers> outliers = {};

  int64_t rows() const { return codes.size(0); }
  int64_t cols() const { return codes.size(1); }

  /// Everything counted: the scheme's bits, and of outliers 16 for the value, 16 for the column and 32 for
  /// each row offset.
  double bits_per_weight() const;

  /// FP32 [out, in].
  at::Tensor dequantize() const;
  /// The same of rows [begin, end), [end - begin, in].
  at::Tensor dequantize_rows(int64_t begin, int64_t end) const;

  /// Multiplies row o by factors[o] (FP32 [out], > 0) exactly in the codes: only the scales change (and are
  /// rounded to scale_dtype again). How a fold reaches a producer that is already solved (v -> o, up ->
  /// down). UserError where a scale leaves scale_dtype's range. InternalError unless can_scale_rows().
  void scale_rows(const at::Tensor& factors);
  /// Not where rows share scales or a grid of scales.
  bool can_scale_rows() const { return !second_level.has_value() && scheme.axis == 1; }
};

/// Rounds FP32 values to what `dtype` (F16, BF16 or F32) can hold, as FP32; ties to even.
at::Tensor round_to(const at::Tensor& values, DType dtype);

}  // namespace lathe
