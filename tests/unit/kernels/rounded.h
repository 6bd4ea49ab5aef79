// Plain rounding by the kernels, step by step: what tests of schemes, formats and artefacts start from.
#pragma once

#include <ATen/ATen.h>

#include "lib/kernels/group_quant.h"
#include "lib/numeric/quantized_tensor.h"

namespace lathe::test {

struct Rounded {
  kernels::GroupParams params;
  at::Tensor codes;
};

/// To the grids that span each group, or the rows that share one.
inline Rounded rounded(const at::Tensor& w, const Scheme& scheme, DType scale_dtype = DType::F32) {
  GroupRange range = kernels::group_min_max(w, scheme);
  if (scheme.shares_rows()) range = kernels::shared_range(range, scheme);
  const at::Tensor global = scheme.has_global_scale() ? kernels::global_scale(w.abs().max()) : at::Tensor();
  const kernels::GroupParams params = kernels::group_params(range, scheme, scale_dtype, global);
  return {params, kernels::group_encode(w, params, scheme)};
}

inline QuantizedTensor tensor_of(const Rounded& part, const Scheme& scheme, DType scale_dtype = DType::F32) {
  return {.scheme = scheme,
          .scale_dtype = scheme.scale_type(scale_dtype),
          .codes = part.codes,
          .scales = kernels::one_row_each(part.params.scales, scheme),
          .zero_points = part.params.zero_points,
          .global_scale = part.params.global};
}

inline QuantizedTensor round_to_nearest(const at::Tensor& weight, const Scheme& scheme, DType scale_dtype) {
  return tensor_of(rounded(weight, scheme, scale_dtype), scheme, scale_dtype);
}

}  // namespace lathe::test
