// manifest.json: what an artefact was made from, so that it can be made again.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "calib/data/calibration_set.h"
#include "recipes/recipe.h"

namespace lathe {

/// Of manifest.json; raised when a key changes its meaning or goes away, not when one is added.
inline constexpr int kManifestSchema = 1;

/// Size and hash of every file below a folder but manifest.json, by its name there: under "files" what equal
/// runs write alike, under "reports" report.json and report.md, which hold times and the machine.
struct FileHashes {
  nlohmann::json files = nlohmann::json::object(), reports = nlohmann::json::object();
};
FileHashes hash_files(const std::filesystem::path& folder);

/// Writes manifest.json: schema, Lathe's version, the recipe with every default filled in, the dataset
/// (dataset_json), and hash_files(). No times and nothing of the machine: two equal runs write manifests that
/// differ in "reports" alone. The last file to be written.
void write_manifest(const std::filesystem::path& folder, const Recipe& recipe, const CalibrationSet& data);

}  // namespace lathe
