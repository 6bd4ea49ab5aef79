#include "apps/quantize/request_checks.h"

#include <filesystem>
#include <system_error>
#include <vector>

#include "formats/targets/kv_cache_file.h"
#include "formats/targets/packed_reader.h"
#include "lib/base/error.h"

namespace lathe {

Recipe effective_recipe(const RunRequest& request) {
  Recipe recipe = load_recipe(request.recipe, request.sets);
  if (request.model) recipe.model = *request.model;
  if (request.output) recipe.output.path = *request.output;
  if (!request.calib.empty()) {
    recipe.calibration.none = false;
    recipe.calibration.data.clear();
    for (const auto& path : request.calib) recipe.calibration.data.push_back({.path = path});
  }
  if (request.memory.ram) recipe.limits.ram = request.memory.ram;
  if (request.memory.vram) recipe.limits.vram = request.memory.vram;
  if (request.memory.disk) recipe.limits.disk = request.memory.disk;
  if (recipe.model.empty()) user_error("{}: no model: give `model:` or --model", recipe.file);
  if (recipe.output.path.empty()) user_error("{}: no output: give `output.path` or --output", recipe.file);
  if (recipe.calibration.data.empty() && !recipe.calibration.none)
    user_error(
        "{}: no calibration text: give `calibration.data` or --calib, or `calibration: null` where no "
        "algorithm needs any",
        recipe.file);
  return recipe;
}

void refuse_quantized(const std::filesystem::path& model) {
  user_error("{}: is quantised already; give the floating-point checkpoint that it was made from",
             model.string());
}

ModelFolder open_source(const Recipe& recipe) {
  ModelFolder model = open_model_folder(recipe.model);
  if (model.kv_cache && !model.quantized)
    user_error(
        "{}: its KV cache is quantised, by {}: remove that; a run starts from the floating-point model",
        recipe.model.string(), kKvCacheFile);
  if (model.quantized && model.packed->read_alone()) return dequantised_folder(std::move(model));
  if (model.quantized) refuse_quantized(recipe.model);
  model.checkpoint->side_files();  // links out of the folder are refused now, not when the work is done
  return model;
}

void check_texts_exist(const Recipe& recipe) {
  std::vector<std::filesystem::path> paths;
  for (const DataSource& source : recipe.calibration.data) paths.push_back(source.path);
  if (recipe.evaluate) paths.push_back(recipe.evaluate->text);
  for (const auto& path : paths) {
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(path, ignored)) {
      user_error("{}: no such text file (calibration.data, --calib or evaluate.text)", path.string());
    }
  }
}

void check_output_apart(const Recipe& recipe) { check_output_apart(recipe.model, recipe.output.path); }

void check_output_apart(const std::filesystem::path& model, const std::filesystem::path& output) {
  std::error_code ignored;
  const auto target = std::filesystem::weakly_canonical(output, ignored);
  for (auto folder = std::filesystem::weakly_canonical(model, ignored); folder != folder.root_path();
       folder = folder.parent_path()) {
    if (folder == target) {
      user_error("output {}: is the model's own folder or holds it; choose another place", output.string());
    }
  }
}

}  // namespace lathe
