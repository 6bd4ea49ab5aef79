// Group-wise integer quantisation of a weight matrix: ranges -> scales and zero points -> codes -> values.
// Each function computes on the device of its arguments; the arithmetic of one group is in
// device/group_quant.cuh, shared by the CPU and the CUDA build. W[out, in] FP32 contiguous; groups run along
// `in`. Arguments that break these rules are InternalErrors.
#pragma once

#include "lib/numeric/quantized_tensor.h"

namespace lathe::kernels {

/// Minimum and maximum of each group; both NaN where it holds a NaN or an infinity.
GroupRange group_min_max(const at::Tensor& weight, const Scheme& scheme);

/// Scales and zero points for given ranges.
/// Symmetric: scale = max(|lo|, |hi|) / ((qmax - qmin) / 2) as compressed-tensors does; asymmetric: lo =
/// min(lo, 0), hi = max(hi, 0), scale = (hi - lo) / (qmax - qmin), zero = clamp(round(qmin - lo / scale)).
/// The scale is rounded to scale_dtype before the zero point is chosen; one that rounds to zero becomes the
/// smallest normal. A NaN range gives a NaN scale, a range beyond scale_dtype an infinite one: callers check
/// (rtn.cc does).
struct GroupParams {
  at::Tensor scales;       // Float [out, groups]
  at::Tensor zero_points;  // Char [out, groups] or undefined
};
GroupParams group_params(const GroupRange& range, const Scheme& scheme, DType scale_dtype);

/// codes = clamp(round_half_even(w / scale) + zero), Char [out, in].
at::Tensor group_encode(const at::Tensor& weight, const GroupParams& params, const Scheme& scheme);

/// scale * (code - zero), Float [out, in].
at::Tensor group_decode(const at::Tensor& codes, const GroupParams& params, const Scheme& scheme);

/// decode(encode(w)) in one pass, without codes.
at::Tensor group_fake_quantize(const at::Tensor& weight, const GroupParams& params, const Scheme& scheme);

}  // namespace lathe::kernels
