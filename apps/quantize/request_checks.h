// What is known to be wrong with a run before anything large is read.
#pragma once

#include <filesystem>

#include "apps/quantize/requests.h"
#include "formats/targets/model_folder.h"
#include "recipes/recipe.h"

namespace lathe {

/// The recipe with the command line's flags on top. UserError where model, output or data is missing, or as
/// load_recipe().
Recipe effective_recipe(const RunRequest& request);

/// The recipe's model: its headers only. UserError as open_model_folder(), or where it is quantised already.
ModelFolder open_source(const Recipe& recipe);

/// UserError: a run starts from a floating-point model.
[[noreturn]] void refuse_quantized(const std::filesystem::path& model);

/// A plan that can't be carried out is no plan: UserError where a file of text isn't there.
void check_texts_exist(const Recipe& recipe);

/// --overwrite must never cost the model: UserError where the output is the model's folder or one around it.
void check_output_apart(const Recipe& recipe);
void check_output_apart(const std::filesystem::path& model, const std::filesystem::path& output);

}  // namespace lathe
