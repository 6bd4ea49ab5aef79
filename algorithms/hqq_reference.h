// HQQ (hqq.cc) of one group, line by line and in FP64: what the fast path is tested against.
#pragma once

#include <cstdint>
#include <vector>

namespace lathe {

struct HqqReferenceChoice {
  double lp_norm = 0.7, beta = 10, kappa = 1.01;
  int iterations = 20;
  bool fit_scale = false;  // the scale is fitted along with the zero point
};

/// w ~ scale * (q - zero).
struct HqqReferenceGroup {
  double scale = 1, zero = 0;
  std::vector<int> codes;
  double error = 0;  // mean |w - scale (q - zero)|; the root of the mean square where scales are fitted
};

/// The group's best grid over the iterations, starting from (scale, zero); zero is a real number, and nothing
/// rounds either. Stops when the error falls no more.
HqqReferenceGroup hqq_reference(const std::vector<double>& w, double scale, double zero, int qmin, int qmax,
                                const HqqReferenceChoice& choice);

/// The same with an integer zero point in [qmin, qmax]: the best of the start's own, which has to be one, and
/// the two neighbours of the real optimum (each limited to that), with the scale fitted to each where asked.
HqqReferenceGroup hqq_integer_reference(const std::vector<double>& w, double scale, double zero, int qmin,
                                        int qmax, const HqqReferenceChoice& choice);

}  // namespace lathe
