// The range that a static activation grid spans, from what calibration saw of a linear's input.
#pragma once

#include <optional>
#include <string>

#include "calib/stats/input_stats.h"
#include "calib/stats/min_max.h"
#include "lib/numeric/activation_scheme.h"
#include "lib/tensor/dtype.h"

namespace lathe {

/// How the range is found: of all values; of all but a part of them at the ends; the clip with the least
/// squared error; the clip with the least divergence (clip.h); the exponential average of the tensor's
/// extremes, a step of which is 2,048 tokens (min_max.h).
enum class ActivationObserver { minmax, percentile, mse, kl, ema };
const char* name_of(ActivationObserver observer);

struct ObserverChoice {
  ActivationObserver method = ActivationObserver::minmax;
  /// percentile: of |x| where the grid is symmetric; else the upper end, and 100 minus it the lower one.
  double percentile = 99.99;
  /// ema: the weight of a step.
  double averaging_constant = kAveragingConstant;
  bool operator==(const ObserverChoice&) const = default;
};

/// A linear's input: its grid, and how that is found where it is static.
struct ActivationTask {
  ActivationScheme scheme;
  ObserverChoice observer;

  /// Why the two don't go together (mse and kl clip a tensor, no group of it); nothing if they do.
  std::optional<std::string> problem() const;
  /// The statistics that quantizer_for() reads: none where the grid is dynamic.
  StatSet needs() const;
};

/// The quantiser that an engine will use. stats: of the input as the engine sees it, folds included. The
/// scale is rounded to `scale_dtype`, in which it is stored, before the zero point is chosen; one that would
/// round to zero becomes the type's smallest normal. Floating-point grids: end of the range / largest number;
/// NVFP4's global scale, FP32 whatever scale_dtype says, is that over E4M3's largest
/// (kernels::global_scale()). Integers, minmax, ema and percentile: scale = range / (qmax - qmin), as
/// compressed-tensors' observers have it (symmetric: of twice the largest magnitude); mse and kl: clip /
/// qmax. UserError naming `where` for a scale beyond the type.
InputQuantizer quantizer_for(const ActivationTask& task, const InputStats& stats, DType scale_dtype,
                             const std::string& where);

}  // namespace lathe
