// A GGUF file as a model that Lathe can run: blocks dequantised on load, names and rows as Hugging Face has
// them.
#pragma once

#include <filesystem>
#include <optional>

#include "formats/targets/model_folder.h"

namespace lathe {

/// The model file that `path` is, or that stands in it as its only one: a folder without config.json, in
/// which importance matrices don't count; of a split model, its first part. UserError for a folder with
/// several.
std::optional<std::filesystem::path> find_gguf_model(const std::filesystem::path& path);

/// A GGUF target's how_to_load with the name of the folder's model file in place of MODEL.gguf; other texts
/// as they are.
std::string with_file_name(std::string how_to_load, const std::filesystem::path& folder);

/// UserError naming the file, and key or tensor, for anything that is not a model of a family that Lathe
/// reads, complete and of the shapes that its keys imply.
ModelFolder open_gguf_model(const std::filesystem::path& file);

}  // namespace lathe
