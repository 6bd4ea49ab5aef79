// Transform "hadamard": inputs and weights rotated in blocks.
#pragma once

#include "algorithms/algorithm.h"

namespace lathe {

const std::vector<OptionSpec>& hadamard_options();
std::unique_ptr<Transform> make_hadamard(const Options& options);

}  // namespace lathe
