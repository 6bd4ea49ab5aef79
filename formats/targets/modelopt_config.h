// The configuration of a modelopt artefact: config.json's "quantization_config", and hf_quant_config.json,
// which says the same in other words.
#pragma once

#include <nlohmann/json.hpp>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "formats/targets/modelopt.h"

namespace lathe {

/// Linears of one algorithm, or MIXED_PRECISION, whose "quantized_layers" has one for each.
nlohmann::json modelopt_quantization_config(const std::vector<PlannedLinear>& linears,
                                            const std::vector<std::string>& ignored);
/// hf_quant_config.json.
std::vector<std::pair<std::string, nlohmann::json>> modelopt_side_files(const nlohmann::json& config);
/// Several algorithms that no one consumer has all of, and names in floating point that vLLM would find in
/// those of quantised linears.
std::optional<std::string> modelopt_refuses_model(const std::vector<PlannedLinear>& linears,
                                                  const std::vector<std::string>& ignored);
/// What vLLM won't load.
std::vector<std::string> modelopt_warnings(const std::vector<PlannedLinear>& linears,
                                           const std::vector<std::string>& ignored);

/// As it is read, from anyone's file.
struct ModeloptConfig {
  std::optional<ModeloptGrid> grid = {};  // nothing for MIXED_PRECISION
  std::map<std::string, ModeloptGrid> layers =
      {};                                  // of that: by module name, or that of all of a block's experts
  std::vector<std::string> excluded = {};  // module names, with * and ? as wildcards
  std::optional<KvCacheScheme> kv_cache = std::nullopt;

  bool excludes(const std::string& linear) const;
  /// Null where it stays in floating point.
  const ModeloptGrid* grid_of(const std::string& linear) const;
};

/// Either form: flat, as in config.json, or under "quantization". UserError beginning with `where` and naming
/// key and value for an algorithm that Lathe doesn't have, a KV cache of other than FP8, zero points, and
/// MIXED_PRECISION without quantized_layers.
ModeloptConfig parse_modelopt_config(const nlohmann::json& config, const std::string& where);

/// Does the pattern (* any characters, ? one) stand for the whole name?
bool wildcard_match(std::string_view pattern, std::string_view name);

}  // namespace lathe
