// The configuration of a GPTQ artefact: config.json's "quantization_config" and quantize_config.json, which
// hold the same object.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <utility>
#include <vector>

#include "formats/targets/gptq.h"
#include "formats/targets/name_match.h"

namespace lathe {

/// The most frequent scheme stands at the top; others, and linears in floating point, are rules of `dynamic`.
/// desc_act says whether any linear has groups of its own order.
nlohmann::json gptq_quantization_config(const std::vector<PlannedLinear>& linears,
                                        const std::vector<std::string>& ignored, GptqVersion version);
/// quantize_config.json.
std::vector<std::pair<std::string, nlohmann::json>> gptq_side_files(const nlohmann::json& config);
/// What vLLM, transformers and, of version 1, GPTQModel won't load.
std::vector<std::string> gptq_warnings(const std::vector<PlannedLinear>& linears, GptqVersion version);

/// As it is read, from anyone's file.
struct GptqConfig {
  struct Rule {
    std::string key;  // "+:..." or "-:..."
    NamePatterns pattern;
    bool skip = false;
    Scheme scheme;
  };
  Scheme scheme;
  GptqVersion version = GptqVersion::v1;
  GptqBorrow borrow = GptqBorrow::refuse;  // whole_words where GPTQModel wrote the file
  bool lm_head = false;                    // is it quantised?
  std::vector<Rule> rules;

  /// The scheme that a linear is stored in, if it is stored packed; nothing where a rule skips it. UserError
  /// where two rules say different things of it (which comes first is not known once JSON has been parsed).
  std::optional<Scheme> scheme_of(const std::string& linear, const std::string& where) const;
};

/// `where` begins every error. UserError naming key and value for another format, another word than 32 bits,
/// and features that change what codes mean (rotation, adapters).
GptqConfig parse_gptq_config(const nlohmann::json& config, const std::string& where);

}  // namespace lathe
