// Names of many layers' modules or tensors as few regular expressions that people can read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lathe {

/// Patterns ("/^model\.layers\.(0|3)\.(mlp\.gate_proj|mlp\.up_proj)$/") that match these names and no other
/// of the same model. A name's first number is its layer's, later ones (an expert's) stand for all numbers:
/// names that differ in those alone come together. Names of all `layers` layers have no list of them.
std::vector<std::string> layer_patterns(const std::vector<std::string>& names, int64_t layers);

}  // namespace lathe
