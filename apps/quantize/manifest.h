// manifest.json: what an artefact was made from, so that it can be made again.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "calib/data/calibration_set.h"
#include "formats/verify/finding.h"
#include "recipes/recipe.h"

namespace lathe {

/// Of manifest.json; raised when a key changes its meaning or goes away, not when one is added.
inline constexpr int kManifestSchema = 1;

/// Size and hash of every file below a folder but manifest.json, by its name there: under "files" what equal
/// runs write alike, under "reports" report.json, report.md and report.html, which hold times and the
/// machine.
struct FileHashes {
  nlohmann::json files = nlohmann::json::object(), reports = nlohmann::json::object();
};
FileHashes hash_files(const std::filesystem::path& folder);

/// The hash of every tensor of the folder's own weight files, safetensors or GGUF, by its name there.
/// UserError where one of them is no such file.
nlohmann::json hash_tensors(const std::filesystem::path& folder);

/// What of a folder is not as its manifest.json says: files first, then tensors, which name what of a file
/// was changed. UserError where the manifest is none.
Findings check_manifest(const std::filesystem::path& folder, const nlohmann::json& manifest);

/// Writes manifest.json: schema, Lathe's version, the recipe with every default filled in, the dataset
/// (dataset_json), hash_files() and hash_tensors(). No times and nothing of the machine: two equal runs write
/// manifests that differ in "reports" alone. The last file to be written.
void write_manifest(const std::filesystem::path& folder, const Recipe& recipe, const CalibrationSet& data);

}  // namespace lathe
