// `quantize list`: what a recipe may name.
#pragma once

#include <string>

#include "apps/quantize/requests.h"

namespace lathe {

/// Text (or JSON) for stdout, with its last line break: transforms and solvers with their options, observers,
/// formats and model families.
std::string list_catalogue(const ListRequest& request);

}  // namespace lathe
