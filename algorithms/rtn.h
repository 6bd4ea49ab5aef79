// Solver "rtn": round to nearest.
#pragma once

#include "algorithms/algorithm.h"

namespace lathe {

const std::vector<OptionSpec>& rtn_options();
/// What is neither integers in groups of rows nor a floating-point grid.
std::optional<std::string> rtn_refuses(const Scheme& scheme);
std::unique_ptr<Solver> make_rtn(const Options& options);

}  // namespace lathe
