// Solver "float": rounds nothing.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "algorithms/algorithm.h"

namespace lathe {

const std::vector<OptionSpec>& floating_options();
std::unique_ptr<Solver> make_floating(const Options& options);
/// Everything but schemes of type float.
std::optional<std::string> floating_refuses(const Scheme& scheme);

}  // namespace lathe
