#include "apps/quantize/id_dump.h"

#include "calib/data/ids_file.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> files_read(const RunRequest& request, const Recipe& recipe) {
  std::vector<fs::path> files = {request.recipe};
  for (const DataSource& source : recipe.calibration.data) files.push_back(source.path);
  if (recipe.evaluate) files.push_back(recipe.evaluate->text);
  return files;
}

bool is_inside(const fs::path& file, const fs::path& folder) {
  std::error_code ignored;
  const fs::path inner = fs::weakly_canonical(fs::absolute(file), ignored)
                             .lexically_relative(fs::weakly_canonical(fs::absolute(folder), ignored));
  return !inner.empty() && *inner.begin() != "..";
}

}  // namespace

void check_id_dump(const RunRequest& request, const Recipe& recipe) {
  if (!request.dump_ids) return;
  const fs::path& file = *request.dump_ids;
  check_ids_file(file);
  std::error_code ignored;
  for (const fs::path& read : files_read(request, recipe)) {
    if (fs::equivalent(file, read, ignored))
      user_error("--dump-ids {}: the run reads this file; choose another name", file.string());
  }
  for (const fs::path& folder : {recipe.model, recipe.output.path}) {
    if (is_inside(file, folder)) {
      user_error("--dump-ids {}: lies in the folder of the model or the output; choose another place",
                 file.string());
    }
  }
  // The run that is gone on with may have written it: dump_ids() looks whether its ids are the same.
  if (!request.overwrite && !request.resume && fs::exists(fs::symlink_status(file, ignored)))
    user_error("--dump-ids {}: already exists; choose another name or pass --overwrite", file.string());
}

void dump_ids(const RunRequest& request, const CalibrationSet& set) {
  std::error_code ignored;
  if (!request.dump_ids) return;
  const fs::path& file = *request.dump_ids;
  if (request.resume && fs::exists(file, ignored)) {
    if (holds_ids(file, set)) return;
    user_error(
        "--dump-ids {}: already exists, and holds other token ids than this run's; choose another name",
        file.string());
  }
  write_ids_file(file, set);
}

}  // namespace lathe
