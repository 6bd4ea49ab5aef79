// The unpacked truth about one quantised weight matrix: codes, scales, zero points. No byte layout in it.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "lib/numeric/activation_scheme.h"
#include "lib/numeric/outliers.h"
#include "lib/numeric/scheme.h"

namespace lathe {

/// Which values of a group its grid has to span: [lo, hi] per row and group. A transform may offer one (AWQ's
/// clip); a solver may use it in place of the plain minimum and maximum.
struct GroupRange {
  at::Tensor lo;  // FP32 [out, groups]
  at::Tensor hi;  // FP32 [out, groups]
};

/// w[o, i] ~ scales[o, k] * (codes[o, i] - zero_points[o, k]) + its outlier, if it is one; k is the group of
/// column i: i / g, or group_index[i]. Where the scheme's groups run along axis 0, scales[o % G, i] and
/// zero_points[o % G, i], G = out / g. On a floating-point grid w[o, i] ~ scales[o / rows, k] *
/// number(codes[o, i]), with NVFP4 (scales[o, k] * global_scale) * number(codes[o, i]), each product rounded
/// to FP32. P: Scheme::parameter_shape(), which is [out, groups].
struct QuantizedTensor {
  Scheme scheme;
  DType scale_dtype =
      DType::F16;  // type of the scales on disk; every value in `scales` is representable in it
  at::Tensor
      codes;  // Char [out, in], in [qmin, qmax]; of a floating-point grid the format's bits, none of them NaN
  at::Tensor scales;  // Float P, finite, > 0 (with a second level >= 0)
  /// Char P in [qmin, qmax]; where the scheme's are real Float P, finite, and less qmin representable in
  /// scale_dtype (files count codes from 0). Undefined where the scheme is symmetric.
  at::Tensor zero_points;
  at::Tensor group_index = {};  // Int [in] in [0, groups), each group g times (g_idx); undefined: i / g
  std::optional<SecondLevel> second_level = {};  // with Scheme::scale_grid; zero_points are then Float
  std::optional<Outliers> outliers = {};
  at::Tensor global_scale = {};  // Float scalar, finite, > 0, where Scheme::has_global_scale()
  /// FP32 [out, in] where the scheme has_values(): the weights as they are; codes and scales are undefined.
  at::Tensor values = {};

  std::optional<InputQuantizer> input =
      std::nullopt;  // what the linear's input passes through; none: nothing

  int64_t rows() const { return matrix().size(0); }
  int64_t cols() const { return matrix().size(1); }

  /// Everything counted: the scheme's bits, 16 for each column of a group_index, and of outliers 16 for the
  /// value, 16 for the column and 32 for each row offset.
  double bits_per_weight() const;

  /// FP32 [out, in].
  at::Tensor dequantize() const;
  /// The same in host memory.
  QuantizedTensor cpu() const;
  /// The same of rows [begin, end), [end - begin, in].
  at::Tensor dequantize_rows(int64_t begin, int64_t end) const;

  /// Multiplies row o by factors[o] (FP32 [out], > 0) exactly in the codes: only the scales change (and are
  /// rounded to scale_dtype again). How a fold reaches a producer that is already solved (v -> o, up ->
  /// down). UserError where a scale leaves scale_dtype's range. InternalError unless can_scale_rows().
  void scale_rows(const at::Tensor& factors);
  /// Not where rows share scales or a grid of scales, or scales are codes.
  bool can_scale_rows() const;

 private:
  const at::Tensor& matrix() const { return scheme.has_values() ? values : codes; }
};

/// Rounds FP32 values to what `dtype` (F16, BF16 or F32) can hold, as FP32; ties to even.
at::Tensor round_to(const at::Tensor& values, DType dtype);

}  // namespace lathe
