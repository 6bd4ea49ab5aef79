#include "apps/quantize/request_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <vector>

#include "formats/targets/dequantised_folder.h"
#include "formats/targets/kv_cache_file.h"
#include "formats/targets/packed_reader.h"
#include "lib/base/error.h"
#include "lib/model/weights_graph.h"

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
  user_error(
      "{}: is quantised already; give the floating-point checkpoint that it was made from (taken as they "
      "are: FP8 of compressed-tensors, modelopt or quant_method fp8, bitnet, aqlm, vptq, bitsandbytes, "
      "QuIP# and QTIP)",
      model.string());
}

ModelFolder as_floating_point(ModelFolder model, const std::filesystem::path& path) {
  const bool cache_of_config = model.packed != nullptr && model.packed->kv_cache_scheme().has_value();
  if (model.kv_cache && !cache_of_config)
    user_error(
        "{}: its KV cache is quantised, by {}: remove that; a run starts from the floating-point model",
        path.string(), kKvCacheFile);
  if (!can_start_a_run(model)) refuse_quantized(path);
  return model.quantized ? dequantised_folder(std::move(model)) : std::move(model);
}

ModelFolder open_source(const Recipe& recipe) {
  ModelFolder model = as_floating_point(open_model_folder(recipe.model), recipe.model);
  model.checkpoint->side_files();  // links out of the folder are refused now, not when the work is done
  return model;
}

UnknownModel open_unknown_model(const std::filesystem::path& folder, const std::string& model_type) {
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const bool fp8 = std::ranges::any_of(
      checkpoint.tensors(), [](const auto& entry) { return entry.second.dtype == DType::F8_E4M3; });
  if (is_quantized(checkpoint) && !fp8) refuse_quantized(folder);  // of others no graph can be made
  WeightsGraph weights = weights_graph(model_type, floating_tensors(checkpoint), folder.string());
  return {as_floating_point(open_model_folder(folder, weights.graph), folder),
          std::move(weights.other_shapes)};
}

void warn_dequantised(const ModelFolder& model, std::vector<std::string>& warnings) {
  const DequantisedWeights* const weights = dequantised_weights(model);
  if (weights == nullptr) return;
  warnings.push_back(
      fmt::format("the model is quantised already ({}) and is dequantised as it is read: losses are measured "
                  "against these values, not against the model that they were made of",
                  weights->described()));
}

uint64_t dequantising_bytes(const ModelFolder& model) {
  const DequantisedWeights* const weights = dequantised_weights(model);
  return weights == nullptr ? 0 : weights->most_bytes();
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
