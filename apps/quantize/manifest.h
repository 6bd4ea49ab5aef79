// manifest.json: what an artefact was made from, so that it can be made again.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "calib/data/calibration_set.h"
#include "recipes/recipe.h"

namespace lathe {

/// Of manifest.json; raised when a key changes its meaning or goes away, not when one is added.
inline constexpr int kManifestSchema = 1;

/// Writes manifest.json: schema, Lathe's version, the recipe with every default filled in, and the dataset
/// (dataset_json), and size and hash of every file below the folder but the report, which holds times. No
/// times and nothing of the machine: two equal runs write equal manifests. The last file to be written.
/// Size and hash of every file below a folder by its name there, but for manifest.json and the report.
nlohmann::json file_hashes(const std::filesystem::path& folder);

void write_manifest(const std::filesystem::path& folder, const Recipe& recipe, const CalibrationSet& data);

}  // namespace lathe
