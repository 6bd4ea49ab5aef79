// GPTQModel's `dynamic`: rules by regular expressions of module names, "-:" for modules left in floating
// point, "+:" for those of another scheme than the model's. Read by GPTQModel (rules "-:" first, then the
// first that matches) and by vLLM, which asks for the names of fused modules (qkv_proj, gate_up_proj,
// experts), so that these are among the names. Sources: GPTQModel 7.7 quantization/config.py, vLLM 0.32
// quantization/utils/gptq_utils.py.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace lathe {

/// Expressions that match exactly these modules and what consumers fuse them into, one for each module that
/// holds some of them: "^model\.layers\.0\.mlp\.(?:down_proj)$". A name that is "re:" and an expression
/// (ModelGraph::untouched) gives that expression.
std::vector<std::string> module_patterns(const std::vector<std::string>& modules);

/// Adds a rule for each pattern of `modules`: "-:" where `change` is empty, else "+:".
void add_dynamic_rules(nlohmann::json& dynamic, const std::vector<std::string>& modules,
                       const nlohmann::json& change = nlohmann::json::object());

/// The same modules for consumers that look for text anywhere in a name or for expressions from its start on:
/// names as they are; of "re:.*text.*" both the text and the expression.
std::vector<std::string> module_texts(const std::vector<std::string>& modules);

}  // namespace lathe
