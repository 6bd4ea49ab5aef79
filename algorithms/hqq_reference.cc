#include "algorithms/hqq_reference.h"

#include <algorithm>
#include <cmath>

namespace lathe {
namespace {

/// q = clamp(round(w / s + z)), and the error that it leaves.
HqqReferenceGroup quantise(const std::vector<double>& w, double scale, double zero, int qmin, int qmax) {
  HqqReferenceGroup group{scale, zero, {}, 0};
  for (const double value : w) {
    const double code = std::clamp(std::nearbyint(value / scale + zero), 1.0 * qmin, 1.0 * qmax);
    group.codes.push_back(static_cast<int>(code));
    group.error += std::abs(value - scale * (code - zero)) / static_cast<double>(w.size());
  }
  return group;
}

/// (sp1): the proximal operator of the l_p norm.
double shrink(double d, double beta, double p) {
  const double a = std::abs(d);
  if (a == 0) return 0;
  return std::copysign(std::max(a - std::pow(a, p - 1) / beta, 0.0), d);
}

}  // namespace

HqqReferenceGroup hqq_reference(const std::vector<double>& w, double scale, double zero, int qmin, int qmax,
                                const HqqReferenceChoice& choice) {
  HqqReferenceGroup best = quantise(w, scale, zero, qmin, qmax), now = best;
  double beta = choice.beta;
  for (int t = 0; t < choice.iterations; ++t) {
    double sum = 0;  // (sp2): z = mean(q - (w - e) / s)
    for (size_t i = 0; i < w.size(); ++i) {
      const double e = shrink(w[i] - scale * (now.codes[i] - now.zero), beta, choice.lp_norm);
      sum += now.codes[i] - (w[i] - e) / scale;
    }
    now = quantise(w, scale, sum / static_cast<double>(w.size()), qmin, qmax);
    if (!(now.error < best.error)) break;
    best = now;
    beta *= choice.kappa;
  }
  return best;
}

}  // namespace lathe
