// `quantize advise`: what serving a model takes of a GPU's memory, and which shipped recipe fits; from
// headers alone.
#pragma once

#include <string>

#include "apps/quantize/requests.h"
#include "recipes/deployment.h"

namespace lathe {

/// Reads config.json and the headers of a floating-point folder. Of families that Lathe doesn't know, too:
/// linears are then the matrices that weights_graph() finds. UserError as Checkpoint::open(), for a quantised
/// folder, and for a config.json without the keys that say how large the KV cache is.
ServedModel read_served_model(const std::filesystem::path& folder);

/// Text, or JSON with AdviseRequest::json.
std::string advise_model(const AdviseRequest& request);

}  // namespace lathe
