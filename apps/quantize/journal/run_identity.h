// All that a run's bytes come from: two runs with equal identities write the same artefact.
#pragma once

#include <c10/core/Device.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "apps/quantize/run_text.h"
#include "calib/driver/driver.h"
#include "formats/targets/model_folder.h"
#include "recipes/recipe.h"

namespace lathe {

/// What stands in a file, without all of it being read: up to 1 MiB its hash; of a larger one its time of
/// change and the hash of its first MiB (a shard's header), of its end, and of 64 pages in between.
nlohmann::json file_identity(const std::filesystem::path& file);

/// The files of a model's folder with their file_identity(); of a GGUF file, its parts and what stands
/// beside.
nlohmann::json model_identity(const ModelFolder& model);

/// The program (its file and its own libraries by their hashes), libtorch, the processor and what multiplies
/// matrices.
nlohmann::json build_identity();

/// Recipe (but for the output's place and the limits, which change no byte), model, data, build, device and
/// dtype. `evaluation` may be undefined. `micro_batch`: where bytes may depend on it (micro_batch_rounds).
nlohmann::json run_identity(const Recipe& recipe, const ModelFolder& model, const CalibrationSet& data,
                            const at::Tensor& evaluation, c10::Device device, DType compute,
                            std::optional<int64_t> micro_batch);

/// What differs, a line each: "recipe.rules[0].scheme.bits was 4 and is 3".
std::vector<std::string> differences(const nlohmann::json& was, const nlohmann::json& is);

}  // namespace lathe
