// The unpacked truth about one quantised weight matrix: codes, scales, zero points. No byte layout in it.
#pragma once

#include <ATen/core/Tensor.h>

#include "lib/numeric/activation_scheme.h"
#include "lib/numeric/scheme.h"

namespace lathe {

/// Which values of a group its grid has to span: [lo, hi] per row and group. A transform may offer one (AWQ's
/// clip); a solver may use it in place of the plain minimum and maximum.
struct GroupRange {
  at::Tensor lo;  // FP32 [out, groups]
  at::Tensor hi;  // FP32 [out, groups]
};

/// w[o, i] ~ scales[o, i / g] * (codes[o, i] - zero_points[o, i / g]).
struct QuantizedTensor {
  Scheme scheme;
  DType scale_dtype =
      DType::F16;          // type of the scales on disk; every value in `scales` is representable in it
  at::Tensor codes;        // Char [out, in], in [qmin, qmax]
  at::Tensor scales;       // Float [out, groups], finite, > 0
  at::Tensor zero_points;  // Char [out, groups] in [qmin, qmax]; undefined where the scheme is symmetric

  std::optional<InputQuantizer> input =
      std::nullopt;  // what the linear's input passes through; none: nothing

  int64_t rows() const { return codes.size(0); }
  int64_t cols() const { return codes.size(1); }

  /// FP32 [out, in].
  at::Tensor dequantize() const;
  /// The same of rows [begin, end), [end - begin, in].
  at::Tensor dequantize_rows(int64_t begin, int64_t end) const;

  /// Multiplies row o by factors[o] (FP32 [out], > 0) exactly in the codes: only the scales change (and are
  /// rounded to scale_dtype again). How a fold reaches a producer that is already solved (v -> o, up ->
  /// down). UserError where a scale leaves scale_dtype's range.
  void scale_rows(const at::Tensor& factors);
};

/// Rounds FP32 values to what `dtype` (F16, BF16 or F32) can hold, as FP32; ties to even.
at::Tensor round_to(const at::Tensor& values, DType dtype);

}  // namespace lathe
