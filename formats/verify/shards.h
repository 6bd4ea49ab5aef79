// The weight files of a folder in safetensors, looked at one by one: nothing of what Checkpoint::open() does
// is taken for granted, and all that is wrong is named, not the first alone.
#pragma once

#include <filesystem>

#include "formats/verify/finding.h"

namespace lathe {

/// Is every tensor of the index in the file that it names, and every tensor of the files in the index;
/// total_size the sum of all; each header sound and each file as long as it says; no weight file besides?
/// UserError where `folder` can't be listed.
Findings check_shards(const std::filesystem::path& folder);

}  // namespace lathe
