// The model whose quantised linears stand in a folder of one kernel layout: a layout is turned back into a
// checkpoint through it.
#pragma once

#include <filesystem>

#include "formats/targets/model_folder.h"

namespace lathe {

/// layouts/<name>, with the artefact that it stands beside (the folder that holds `layouts`, or one of the
/// folders in it) for all that is no quantised linear. Codes, scales and zero points come out of the layout,
/// bit for bit; which linears are quantised, and how, has to be the same in both. UserError where there is no
/// such artefact, where they differ, and, when a linear is read, for bytes that the layout's packer doesn't
/// write.
ModelFolder open_layout_model(const std::filesystem::path& folder);

}  // namespace lathe
