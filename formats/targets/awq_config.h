// The configuration of an AWQ artefact: config.json's "quantization_config", the same in
// quantize_config.json, where GPTQModel looks first, and quant_config.json with AutoAWQ's own keys.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <utility>
#include <vector>

#include "formats/targets/awq.h"

namespace lathe {

/// `linears` have one scheme (awq_refuses_model()). Those in floating point are named twice: in
/// modules_to_not_convert for transformers, vLLM and AutoAWQ, in `dynamic` for GPTQModel.
nlohmann::json awq_quantization_config(const std::vector<PlannedLinear>& linears,
                                       const std::vector<std::string>& ignored, AwqVersion version);
std::vector<std::pair<std::string, nlohmann::json>> awq_side_files(const nlohmann::json& config);

/// Two schemes, and names of linears in floating point that are part of a quantised one's: consumers look for
/// them anywhere in a name.
std::optional<std::string> awq_refuses_model(const std::vector<PlannedLinear>& linears,
                                             const std::vector<std::string>& ignored);
std::vector<std::string> awq_warnings(const std::vector<PlannedLinear>& linears,
                                      const std::vector<std::string>& ignored);

/// As it is read, from anyone's file.
struct AwqConfig {
  Scheme scheme;
  AwqVersion version = AwqVersion::gemm;
  std::vector<std::string> skipped;  // modules_to_not_convert

  /// Does it leave the linear in floating point?
  bool skips(const std::string& linear) const;
};

/// `where` begins every error. UserError naming key and value for anything but 4 bits in one of the two
/// layouts. Weights are symmetric where `meta.symmetric` says so, or zero_point is false, as GPTQModel has it
/// (with zero points of 8 in the file all the same).
AwqConfig parse_awq_config(const nlohmann::json& config, const std::string& where);

}  // namespace lathe
