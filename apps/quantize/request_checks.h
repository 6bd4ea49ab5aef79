// What is known to be wrong with a run before anything large is read.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "apps/quantize/requests.h"
#include "formats/targets/model_folder.h"
#include "recipes/recipe.h"

namespace lathe {

/// The recipe with the command line's flags on top. UserError where model, output or data is missing, or as
/// load_recipe().
Recipe effective_recipe(const RunRequest& request);

/// The recipe's model: its headers only. One that is quantised in a way that can_start_a_run() is dequantised
/// as it is read. UserError as open_model_folder(), or where it is quantised in another way already.
ModelFolder open_source(const Recipe& recipe);

/// What open_source() makes of a folder that was opened from `path`.
ModelFolder as_floating_point(ModelFolder model, const std::filesystem::path& path);
/// Says so of one that was dequantised.
void warn_dequantised(const ModelFolder& model, std::vector<std::string>& warnings);
/// The most memory that it takes to dequantise one of its weights, beside the weight; 0: nothing is
/// dequantised.
uint64_t dequantising_bytes(const ModelFolder& model);

/// The matrices of a folder of a family that Lathe doesn't know, FP8 ones dequantised, and what else it
/// holds.
struct UnknownModel {
  ModelFolder folder;
  std::vector<std::pair<std::string, TensorInfo>> other_shapes;  // WeightsGraph::other_shapes
};
/// UserError as open_source() and weights_graph().
UnknownModel open_unknown_model(const std::filesystem::path& folder, const std::string& model_type);

/// UserError: a run starts from a floating-point model.
[[noreturn]] void refuse_quantized(const std::filesystem::path& model);

/// A plan that can't be carried out is no plan: UserError where a file of text isn't there.
void check_texts_exist(const Recipe& recipe);

/// --overwrite must never cost the model: UserError where the output is the model's folder or one around it.
void check_output_apart(const Recipe& recipe);
void check_output_apart(const std::filesystem::path& model, const std::filesystem::path& output);

}  // namespace lathe
