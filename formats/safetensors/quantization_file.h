// Files beside config.json in which older exports say how they are quantised.
#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <string>

namespace lathe {

/// Puts what such a file says into `config` as its "quantization_config", where there is none, and gives the
/// file's name; "config.json" otherwise. As vLLM and GPTQModel look for them:
/// - hf_quant_config.json of modelopt, as {"quant_method": "modelopt", "quantization": ...}; beside a
///   configuration of today's it adds the size of AWQ's groups.
/// - where `packed` (there are tensors named *.qweight) quantize_config.json of AutoGPTQ and
/// quant_config.json
///   of AutoAWQ, as they are; with the quant_method that their writers left out.
/// UserError for a file that is no JSON object.
std::string add_quantization_file(const std::filesystem::path& folder, bool packed, nlohmann::json& config);

}  // namespace lathe
