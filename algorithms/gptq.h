// Solver "gptq": rounding with error feedback through the inverse Hessian.
#pragma once

#include "algorithms/algorithm.h"

namespace lathe {

const std::vector<OptionSpec>& gptq_options();
std::unique_ptr<Solver> make_gptq(const Options& options);

}  // namespace lathe
