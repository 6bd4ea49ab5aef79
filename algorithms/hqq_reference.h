// HQQ (hqq.cc), line by line and in FP64: what the fast path is tested against.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "lib/numeric/scheme.h"

namespace lathe {

struct HqqReferenceChoice {
  double lp_norm = 0.7, beta = 10, kappa = 1.01;
  int iterations = 20;
  bool fit_scale = false;    // the scale is fitted along with the zero point
  bool early_stop = true;    // a group is done when its error falls no more; else all iterations are made
  bool round_start = false;  // real zero points start from an integer
};

/// w ~ scale * (q - zero).
struct HqqReferenceGroup {
  double scale = 1, zero = 0;
  std::vector<int> codes;
  double error = 0;  // mean |w - scale (q - zero)|; the root of the mean square where scales are fitted
};

/// The group's best grid over the iterations, starting from (scale, zero); zero is a real number, and nothing
/// rounds either.
HqqReferenceGroup hqq_reference(const std::vector<double>& w, double scale, double zero, int qmin, int qmax,
                                const HqqReferenceChoice& choice);

/// The same with an integer zero point in [qmin, qmax]: the best of the start's own, which has to be one, and
/// the two neighbours of the real optimum (each limited to that), with the scale fitted to each where asked.
HqqReferenceGroup hqq_integer_reference(const std::vector<double>& w, double scale, double zero, int qmin,
                                        int qmax, const HqqReferenceChoice& choice);

/// Every group of a weight [out, in] (any floating type, CPU, no group of one value), from the grid that
/// spans its values, or for integer zero points from plain rounding's. Along axis 1 a group is neighbours of
/// a row; along axis 0 it is a column of the weight as [length, -1], row-major (the library's W.reshape). In
/// the order of Scheme::parameter_shape(), row-major.
std::vector<HqqReferenceGroup> hqq_reference(const at::Tensor& weight, const Scheme& scheme,
                                             const HqqReferenceChoice& choice);

}  // namespace lathe
