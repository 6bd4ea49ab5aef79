// Transform "smoothquant": moves activation outliers into the weights.
#pragma once

#include "algorithms/algorithm.h"

namespace lathe {

const std::vector<OptionSpec>& smoothquant_options();
std::unique_ptr<Transform> make_smoothquant(const Options& options);

}  // namespace lathe
