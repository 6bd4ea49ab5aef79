// How servers cut linears between GPUs, and which degrees a kernel's rules on shapes allow.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "formats/consumers/consumers.h"

namespace lathe {

/// Why linears, all of the kind that the rule is for, can't be cut between `degree` GPUs (1: run on one);
/// nothing if they can. `method` says in which direction its words hold several codes.
std::optional<std::string> degree_problem(const KernelRule& rule, const std::string& method,
                                          const std::vector<PlannedLinear>& linears, int degree,
                                          const HeadCounts& heads);

}  // namespace lathe
