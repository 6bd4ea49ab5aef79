// The search for a group's range in plain loops, its errors in FP64: what search_range() (group_search.h) is
// tested against, and what the references of GPTQ and RTN take their ranges from.
#pragma once

#include <vector>

#include "lib/numeric/quantized_tensor.h"

namespace lathe::kernels {

/// How a search goes about it; an empty importance counts all columns alike.
struct SearchSteps {
  int64_t steps = 40;
  double max_shrink = 0.5;
};

/// The factors of both ends that are tried, in the order of preference among equals: the full range; on a
/// symmetric grid those above 1, the widest first (it gives the largest weight the largest code on either
/// side, 7.5 / 7 of the range with codes from -8 to 7); then those below.
std::vector<float> range_factors(const Scheme& scheme, const SearchSteps& search);

/// The ends of one group that leave the least sum of importance * (w - rounded w)^2, the scale rounded to its
/// type. Integer grids whose scales are plain numbers.
struct RangeEnds {
  float lo = 0, hi = 0;
};
RangeEnds search_group_reference(const std::vector<double>& weights, const std::vector<double>& importance,
                                 const Scheme& scheme, DType scale_dtype, const SearchSteps& search);

/// Of each row's groups. weight: [out, in]; importance: [in] >= 0, or undefined for 1; any floating type,
/// CPU.
GroupRange search_range_reference(const at::Tensor& weight, const at::Tensor& importance,
                                  const Scheme& scheme, DType scale_dtype, const SearchSteps& search);

}  // namespace lathe::kernels
