#include "apps/quantize/manifest.h"

#include "apps/quantize/dataset.h"
#include "lib/base/file.h"

namespace lathe {

void write_manifest(const std::filesystem::path& folder, const Recipe& recipe, const CalibrationSet& data) {
  const nlohmann::json manifest = {
      {"schema", kManifestSchema},
      {"lathe", LATHE_VERSION},
      {"recipe", recipe.to_json()},
      {"dataset", recipe.calibration.none ? nlohmann::json() : dataset_json(recipe.calibration, data)}};
  write_file(folder / "manifest.json",
             manifest.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

}  // namespace lathe
