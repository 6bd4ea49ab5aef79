// AWQ as the paper and the authors' code write it (arXiv 2306.00978, equations 4 and 5; auto_clip), slowly:
// plain loops in FP64 over tokens, rows and columns. What the fast path (awq.cc, clip_search.cc), which sees
// the tokens as a Gram matrix, is tested against.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "lib/numeric/quantized_tensor.h"

namespace lathe {

struct AwqReferenceLinear {
  at::Tensor weight;  // Float [out, in]
  Scheme scheme;      // groups of rows, integer zero points
  DType scale_dtype = DType::F16;
};

struct AwqReferenceChoice {
  double unscaled = 0;         // the loss without scales
  std::vector<double> losses;  // of the exponents 0, 1 / grid, ... below 1
  int best = -1;               // the first of the exponents with the least loss; -1: none beats no scaling
  at::Tensor scales;           // Double [in], of the best; 1 where there is none
};

/// The search for scales of linears that read x, Float [tokens, in]: the mean over tokens of
/// |Q(W s) (x / s) - W x|^2, summed over the linears, for s_j = mean|x_j|^r, divided by v_j^(1 - r) + 1e-4
/// with duo scaling (v_j: mean over all rows of |W_ij| in parts of its group's largest), the largest times
/// the smallest normed to 1. `repeat` heads of head_dim channels one after the other share their scales.
AwqReferenceChoice awq_reference(const at::Tensor& x, const std::vector<AwqReferenceLinear>& linears,
                                 int64_t grid, bool duo_scaling, int64_t repeat = 1, int64_t head_dim = 0);

/// The first of the factors of a group's [min, max] with the least mean over tokens of (d x)^2 for each row
/// and group, d the group's rounding errors: Double [out, groups].
at::Tensor awq_clip_reference(const at::Tensor& x, const AwqReferenceLinear& linear,
                              const std::vector<double>& factors);

}  // namespace lathe
