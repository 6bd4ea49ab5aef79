// `quantize inspect DIR|FILE`: what a model folder, a kernel layout, or one safetensors file holds.
#pragma once

#include <string>

#include "apps/quantize/requests.h"

namespace lathe {

/// Text (or JSON) for stdout, with its last line break: every tensor of a folder with config.json and
/// safetensors, sizes, and what Lathe can say about the model: family, schemes, bits per weight. A folder
/// that Lathe can't run (an unknown family, a foreign quantisation) is listed all the same, with the reason.
/// And what the servers will make of an artefact (formats/consumers). A file: its tensors, with schemes where
/// it is a shard of such a folder. A kernel layout: its tensors, schemes, kernel and order.
/// UserError where the folder can't be read.
std::string inspect_folder(const InspectRequest& request);

}  // namespace lathe
