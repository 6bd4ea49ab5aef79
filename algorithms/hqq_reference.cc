#include "algorithms/hqq_reference.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "lib/base/error.h"

namespace lathe {
namespace {

/// q = clamp(round(w / s + z)), and the error that it leaves.
HqqReferenceGroup quantise(const std::vector<double>& w, double scale, double zero, int qmin, int qmax,
                           bool squares) {
  HqqReferenceGroup group{scale, zero, {}, 0};
  for (const double value : w) {
    const double code = std::clamp(std::nearbyint(value / scale + zero), 1.0 * qmin, 1.0 * qmax);
    group.codes.push_back(static_cast<int>(code));
    const double d = std::abs(value - scale * (code - zero));
    group.error += (squares ? d * d : d) / static_cast<double>(w.size());
  }
  if (squares) group.error = std::sqrt(group.error);
  return group;
}

/// (sp1): the proximal operator of the l_p norm.
double shrink(double d, double beta, double p) {
  const double a = std::abs(d);
  if (a == 0) return 0;
  return std::copysign(std::max(a - std::pow(a, p - 1) / beta, 0.0), d);
}

/// (sp2) for given codes: scale and zero point (or one of them) that fit `values` with the least squares.
/// Codes that are all but one and the same tell nothing of the scale, which stays; it stays positive, too.
void fit(HqqReferenceGroup& group, const std::vector<double>& values, bool fit_scale, bool keep_zero) {
  const auto n = static_cast<double>(values.size());
  double code_mean = 0, value_mean = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    code_mean += group.codes[i] / n;
    value_mean += values[i] / n;
  }
  // Around the means, or around the zero point where it stays: values = scale (q - zero).
  const double code_centre = keep_zero ? group.zero : code_mean, value_centre = keep_zero ? 0 : value_mean;
  double spread = 0, common = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double c = group.codes[i] - code_centre;
    spread += c * c;
    common += c * (values[i] - value_centre);
  }
  if (fit_scale && spread > 0.25) group.scale = std::max(common / spread, 0.1 * group.scale);
  if (!keep_zero) group.zero = code_mean - value_mean / group.scale;  // the mean of q - (w - e) / s
}

HqqReferenceGroup improved(const std::vector<double>& w, double scale, double zero, int qmin, int qmax,
                           const HqqReferenceChoice& choice, bool keep_zero) {
  HqqReferenceGroup best = quantise(w, scale, zero, qmin, qmax, choice.fit_scale), now = best;
  double beta = choice.beta;
  for (int t = 0; t < choice.iterations; ++t) {
    std::vector<double> values;  // w - e
    for (size_t i = 0; i < w.size(); ++i)
      values.push_back(w[i] - shrink(w[i] - now.scale * (now.codes[i] - now.zero), beta, choice.lp_norm));
    fit(now, values, choice.fit_scale, keep_zero);
    now = quantise(w, now.scale, now.zero, qmin, qmax, choice.fit_scale);
    if (now.error < best.error) {
      best = now;
    } else if (choice.early_stop) {
      break;
    }
    beta *= choice.kappa;
  }
  return best;
}

HqqReferenceGroup from_its_range(const std::vector<double>& w, const Scheme& scheme,
                                 const HqqReferenceChoice& choice) {
  const auto [least, most] = std::minmax_element(w.begin(), w.end());
  LATHE_ASSERT(*least < *most, "HQQ reference: a group of one value");
  const int qmin = scheme.qmin(), qmax = scheme.qmax();
  if (scheme.real_zero) {
    const double scale = (*most - *least) / (qmax - qmin), zero = qmin - *least / scale;
    return hqq_reference(w, scale, choice.round_start ? std::nearbyint(zero) : zero, qmin, qmax, choice);
  }
  const double lo = std::min(*least, 0.0), scale = (std::max(*most, 0.0) - lo) / (qmax - qmin);
  return hqq_integer_reference(w, scale, std::nearbyint(qmin - lo / scale), qmin, qmax, choice);
}

}  // namespace

HqqReferenceGroup hqq_reference(const std::vector<double>& w, double scale, double zero, int qmin, int qmax,
                                const HqqReferenceChoice& choice) {
  return improved(w, scale, zero, qmin, qmax, choice, /*keep_zero=*/false);
}

HqqReferenceGroup hqq_integer_reference(const std::vector<double>& w, double scale, double zero, int qmin,
                                        int qmax, const HqqReferenceChoice& choice) {
  const HqqReferenceGroup real = hqq_reference(w, scale, zero, qmin, qmax, choice);
  HqqReferenceGroup best = improved(w, scale, zero, qmin, qmax, choice, /*keep_zero=*/true);
  for (const double neighbour : {std::floor(real.zero), std::floor(real.zero) + 1}) {
    const double integer = std::clamp(neighbour, 1.0 * qmin, 1.0 * qmax);
    const HqqReferenceGroup found = improved(w, real.scale, integer, qmin, qmax, choice, /*keep_zero=*/true);
    if (found.error < best.error) best = found;
  }
  return best;
}

std::vector<HqqReferenceGroup> hqq_reference(const at::Tensor& weight, const Scheme& scheme,
                                             const HqqReferenceChoice& choice) {
  const at::Tensor copy = weight.to(at::kDouble).contiguous();
  const double* const values = copy.const_data_ptr<double>();
  const int64_t length = scheme.group_length(weight.size(0), weight.size(1)), count = copy.numel() / length;
  const int64_t first = scheme.axis == 1 ? length : 1, next = scheme.axis == 1 ? 1 : count;
  std::vector<HqqReferenceGroup> groups;
  for (int64_t group = 0; group < count; ++group) {
    std::vector<double> w;
    for (int64_t i = 0; i < length; ++i) w.push_back(values[group * first + i * next]);
    groups.push_back(from_its_range(w, scheme, choice));
  }
  return groups;
}

}  // namespace lathe
