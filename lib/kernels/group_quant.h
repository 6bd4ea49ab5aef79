// Group-wise quantisation of a weight matrix, to integers or to numbers of few bits: ranges -> scales and
// zero points -> codes -> values. Each function computes on the device of its arguments; the arithmetic of
// one group is in device/group_quant.cuh, shared by the CPU and the CUDA build. W[out, in] FP32 contiguous;
// groups run along `in`. Arguments that break these rules are InternalErrors.
#pragma once

#include "lib/numeric/quantized_tensor.h"

namespace lathe::kernels {

/// Minimum and maximum of each group; both NaN where it holds a NaN or an infinity.
GroupRange group_min_max(const at::Tensor& weight, const Scheme& scheme);

/// Scales and zero points for given ranges.
/// Symmetric: scale = max(|lo|, |hi|) / ((qmax - qmin) / 2) as compressed-tensors does; asymmetric: lo =
/// min(lo, 0), hi = max(hi, 0), scale = (hi - lo) / (qmax - qmin), zero = clamp(round(qmin - lo / scale)).
/// With Scheme::zero_above_lowest the scale is at least hi / (qmax - qmin - 1), and zero qmin + 1.
/// The scale is rounded to scale_dtype before the zero point is chosen; one that rounds to zero becomes the
/// smallest normal. A NaN range gives a NaN scale, a range beyond scale_dtype an infinite one: callers check
/// (rtn.cc does). Floating-point grids: max(|lo|, |hi|) / the largest number; NVFP4's that over `global`,
/// rounded to E4M3; MX's a power of two (device/float_grid.cuh).
/// Scales are a row's own here, whatever Scheme::rows says: ranges of rows that share scales are made one by
/// shared_range() before, so that their scales are equal.
struct GroupParams {
  at::Tensor scales;       // Float [out, groups]
  at::Tensor zero_points;  // Char [out, groups] or undefined
  at::Tensor global =
      {};  // Float scalar where Scheme::has_global_scale(): weights are divided by scales * global
};
GroupParams group_params(const GroupRange& range, const Scheme& scheme, DType scale_dtype,
                         const at::Tensor& global = {});

/// What weights are divided by, Float [out, groups]: the scales, times the global one (rounded to FP32).
at::Tensor steps_of(const GroupParams& params);

/// The global scale of NVFP4 for tensors whose largest magnitude is `largest` (Float scalar): largest / (6 *
/// 448), so that the largest group's scale is E4M3's largest. Rounded so that the reciprocal of its FP32
/// reciprocal is itself: formats that store the one and formats that store the other stand for the same
/// number. The smallest normal for 0.
at::Tensor global_scale(const at::Tensor& largest);

/// The ranges of rows that share scales (Scheme::rows), made one: symmetric, each row's the widest of its
/// rows' of that group. [rows, groups]; the first row begins a block. A NaN range makes all NaN.
GroupRange shared_range(const GroupRange& range, const Scheme& scheme);

/// Float [out, groups] with rows that share scales equal -> Scheme::parameter_shape() where that is of
/// one group a row, or of blocks.
at::Tensor one_row_each(const at::Tensor& scales, const Scheme& scheme);

/// On a floating-point grid the codes are the format's bits. codes = clamp(round_half_even(w / scale) +
/// zero), Char [out, in].
at::Tensor group_encode(const at::Tensor& weight, const GroupParams& params, const Scheme& scheme);

/// decode(encode(w)) in one pass, without codes.
at::Tensor group_fake_quantize(const at::Tensor& weight, const GroupParams& params, const Scheme& scheme);

}  // namespace lathe::kernels
