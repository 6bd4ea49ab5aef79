#include "apps/quantize/manifest.h"

#include "apps/quantize/dataset.h"
#include "lib/base/file.h"
#include "lib/base/hash.h"

namespace lathe {

namespace fs = std::filesystem;

nlohmann::json file_hashes(const fs::path& folder) {
  nlohmann::json files = nlohmann::json::object();
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().lexically_relative(folder).generic_string();
    if (!entry.is_regular_file() || name == "manifest.json" || name == "report.json" || name == "report.md")
      continue;
    files[name] = {{"bytes", entry.file_size()}, {"hash", content_hash_of_file(entry.path())}};
  }
  return files;
}

void write_manifest(const std::filesystem::path& folder, const Recipe& recipe, const CalibrationSet& data) {
  const nlohmann::json manifest = {
      {"schema", kManifestSchema},
      {"lathe", LATHE_VERSION},
      {"recipe", recipe.to_json()},
      {"dataset", recipe.calibration.none ? nlohmann::json() : dataset_json(recipe.calibration, data)},
      {"files", file_hashes(folder)}};
  write_file(folder / "manifest.json",
             manifest.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

}  // namespace lathe
