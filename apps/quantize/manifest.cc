#include "apps/quantize/manifest.h"

#include "apps/quantize/dataset.h"
#include "lib/base/file.h"
#include "lib/base/hash.h"

namespace lathe {

namespace fs = std::filesystem;

FileHashes hash_files(const fs::path& folder) {
  FileHashes result;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().lexically_relative(folder).generic_string();
    if (!entry.is_regular_file() || name == "manifest.json") continue;
    nlohmann::json& place = name == "report.json" || name == "report.md" ? result.reports : result.files;
    place[name] = {{"bytes", entry.file_size()}, {"hash", content_hash_of_file(entry.path())}};
  }
  return result;
}

void write_manifest(const std::filesystem::path& folder, const Recipe& recipe, const CalibrationSet& data) {
  const FileHashes hashes = hash_files(folder);
  const nlohmann::json manifest = {
      {"schema", kManifestSchema},
      {"lathe", LATHE_VERSION},
      {"recipe", recipe.to_json()},
      {"dataset", recipe.calibration.none ? nlohmann::json() : dataset_json(recipe.calibration, data)},
      {"files", hashes.files},
      {"reports", hashes.reports}};
  write_file(folder / "manifest.json",
             manifest.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

}  // namespace lathe
