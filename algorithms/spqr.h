// SpQR: sparse outliers beside a grid with scales on a second level. The essay is in spqr.cc.
#pragma once

#include "algorithms/algorithm.h"

namespace lathe {

const std::vector<OptionSpec>& spqr_options();
std::unique_ptr<Solver> make_spqr(const Options& options);
/// Why SpQR can't round to a scheme; nothing if it can.
std::optional<std::string> spqr_refuses(const Scheme& scheme);

}  // namespace lathe
