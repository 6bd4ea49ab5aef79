// Quantiles of a sample.
#pragma once

#include <span>

namespace lathe {

/// The q-quantile of ascending `values` (not empty), linear between neighbours, as torch.quantile and numpy
/// define it.
double sorted_quantile(std::span<const double> values, double q);

}  // namespace lathe
