// HQQ: half-quadratic quantisation, which fits each group's zero point without calibration data.
#pragma once

#include "algorithms/algorithm.h"

namespace lathe {

const std::vector<OptionSpec>& hqq_options();
std::unique_ptr<Solver> make_hqq(const Options& options);
/// Why HQQ can't round to a scheme: it has to have zero points.
std::optional<std::string> hqq_refuses(const Scheme& scheme);

}  // namespace lathe
