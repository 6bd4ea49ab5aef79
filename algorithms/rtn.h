// Solver "rtn": round to nearest.
#pragma once

#include "algorithms/algorithm.h"

namespace lathe {

const std::vector<OptionSpec>& rtn_options();
std::unique_ptr<Solver> make_rtn(const Options& options);

}  // namespace lathe
