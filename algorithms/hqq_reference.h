// HQQ (hqq.cc) of one group, line by line and in FP64: what the fast path is tested against.
#pragma once

#include <cstdint>
#include <vector>

namespace lathe {

struct HqqReferenceChoice {
  double lp_norm = 0.7, beta = 10, kappa = 1.01;
  int iterations = 20;
};

/// w ~ scale * (q - zero).
struct HqqReferenceGroup {
  double scale = 1, zero = 0;
  std::vector<int> codes;
  double error = 0;  // mean |w - scale (q - zero)|
};

/// The group's best grid over the iterations, starting from (scale, zero); scale stays, zero is a real number
/// that nothing rounds. Stops when the error falls no more.
HqqReferenceGroup hqq_reference(const std::vector<double>& w, double scale, double zero, int qmin, int qmax,
                                const HqqReferenceChoice& choice);

}  // namespace lathe
