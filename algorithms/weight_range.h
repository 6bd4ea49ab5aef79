// The range that a group's grid spans, chosen from the weights alone: the observers of static schemes, for
// weights. Clipping a range gives up its ends for finer steps within.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lib/base/options.h"
#include "lib/numeric/quantized_tensor.h"

namespace lathe {

enum class RangeMethod {
  minmax,      // all values
  percentile,  // but a part of them at the ends
  mse,         // the least squared rounding error
  weighted,    // the least squared rounding error, each column's weighted by its importance
  kl           // the least divergence of the distribution (calib/stats/clip.h)
};

struct RangeChoice {
  RangeMethod method = RangeMethod::minmax;
  /// percentile: of |w| where the grid is symmetric; else the upper end, and 100 minus it the lower one.
  double percentile = 99.9;
  /// mse, weighted: the factors of kernels::search_range() for both ends of [min, max] together.
  int64_t steps = 40;
  double max_shrink = 0.5;
};

/// Groups shorter than this have too few values for a histogram: kl refuses them.
constexpr int64_t kShortestKlGroup = 512;

/// A way to find a range, as recipes name it.
struct RangeMethodRow {
  RangeMethod method;
  const char* name;
  const char* summary;
};
std::span<const RangeMethodRow> range_methods();

/// lo <= hi of each row and group, within the group's minimum and maximum. weight: FP32 [out, in] contiguous,
/// on any device. Each method's outcome for one group depends on that group's values only; mse and
/// weighted on how they are rounded, too (scale type included), so a group never gets a larger error than
/// minmax gives it. importance: Float [in] >= 0, for weighted: E[x^2] of the inputs, which makes the sum the
/// output error of independent inputs (llama.cpp's imatrix), or diag(H). global: as in
/// kernels::group_params(). Groups that hold a NaN or an infinity get a NaN range: the solver refuses them by
/// name. Schemes whose rows share scales: shared_range.h; minmax gives each row's own here. UserError naming
/// `name` where groups are too short: for kl's histogram, or so that the percentile
/// leaves out less than one value, which would be minmax under another name.
GroupRange weight_range(const at::Tensor& weight, const Scheme& scheme, DType scale_dtype,
                        const RangeChoice& choice, const std::string& name, const at::Tensor& importance = {},
                        const at::Tensor& global = {});

/// Why a range can't be chosen so in groups of this many weights; nothing if it can. weight_range() refuses
/// the same.
std::optional<std::string> range_refuses(const RangeChoice& choice, int64_t length);

/// How often a weight is rounded while its group's range is searched.
double range_roundings(const RangeChoice& choice, const Scheme& scheme);

/// The options of a solver that chooses ranges this way, and their values.
const std::vector<OptionSpec>& range_options();
RangeChoice range_choice(const Options& options);

}  // namespace lathe
