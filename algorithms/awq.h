// Transform "awq": activation-aware weight quantisation.
#pragma once

#include "algorithms/algorithm.h"

namespace lathe {

const std::vector<OptionSpec>& awq_options();
std::unique_ptr<Transform> make_awq(const Options& options);

}  // namespace lathe
