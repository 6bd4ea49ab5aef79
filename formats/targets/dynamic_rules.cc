#include "formats/targets/dynamic_rules.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>

namespace lathe {
namespace {

/// What consumers make of several neighbours.
struct Fusion {
  std::vector<std::string> parts;
  const char* whole;
};
const std::vector<Fusion>& fusions() {
  static const std::vector<Fusion> table = {{{"q_proj", "k_proj", "v_proj"}, "qkv_proj"},
                                            {{"gate_proj", "up_proj"}, "gate_up_proj"}};
  return table;
}

constexpr std::string_view kExpression = "re:", kAnything = ".*";

std::string escape(const std::string& name) {
  std::string text;
  for (const char c : name) {
    if (std::string_view(R"(\.^$*+?{}[]()|)").find(c) != std::string_view::npos) text += '\\';
    text += c;
  }
  return text;
}

/// "model.layers.0.mlp.experts.3" -> "model.layers.0.mlp.experts"; empty where it is no expert.
std::string experts_of(const std::string& parent) {
  const size_t dot = parent.rfind('.');
  if (dot == std::string::npos || dot + 1 == parent.size()) return {};
  const bool number = parent.find_first_not_of("0123456789", dot + 1) == std::string::npos;
  const std::string experts = parent.substr(0, dot);
  return number && experts.ends_with(".experts") ? experts : std::string();
}

}  // namespace

std::vector<std::string> module_patterns(const std::vector<std::string>& modules) {
  std::map<std::string, std::vector<std::string>> leaves;  // by the expression of what comes before
  std::map<std::string, std::string> stacks;               // experts by that expression
  std::vector<std::string> order, patterns;
  for (const std::string& module : modules) {
    if (module.starts_with(kExpression)) {
      patterns.push_back(module.substr(kExpression.size()));
      continue;
    }
    const size_t dot = module.rfind('.');
    const std::string parent = dot == std::string::npos ? "" : module.substr(0, dot);
    const std::string experts = experts_of(parent);
    std::string before = parent.empty() ? "" : escape(parent) + R"(\.)";
    if (!experts.empty()) {
      before = escape(experts) + R"(\.\d+\.)";
      stacks[before] = escape(experts);
    }
    auto& names = leaves[before];
    if (names.empty()) order.push_back(before);
    const std::string leaf = escape(module.substr(dot == std::string::npos ? 0 : dot + 1));
    if (std::ranges::find(names, leaf) == names.end()) names.push_back(leaf);
  }
  for (const std::string& before : order) {
    auto& names = leaves.at(before);
    const size_t own = names.size();
    for (const Fusion& fusion : fusions()) {
      const bool all = std::ranges::all_of(fusion.parts, [&](const std::string& part) {
        return std::ranges::find(names, part) != names.end();
      });
      if (all && !stacks.contains(before)) names.push_back(fusion.whole);
    }
    patterns.push_back(fmt::format("^{}(?:{})$", before, fmt::join(names, "|")));
    // All three of an expert's linears: the stack is as they are.
    if (stacks.contains(before) && own >= 3) patterns.push_back(fmt::format("^{}$", stacks.at(before)));
  }
  return patterns;
}

void add_dynamic_rules(nlohmann::json& dynamic, const std::vector<std::string>& modules,
                       const nlohmann::json& change) {
  for (const std::string& pattern : module_patterns(modules))
    dynamic[(change.empty() ? "-:" : "+:") + pattern] = change;
}

std::vector<std::string> module_texts(const std::vector<std::string>& modules) {
  std::vector<std::string> texts;
  for (const std::string& module : modules) {
    if (!module.starts_with(kExpression)) {
      texts.push_back(module);
      continue;
    }
    const std::string expression = module.substr(kExpression.size());
    texts.push_back(expression);
    const bool around = expression.size() > 2 * kAnything.size() && expression.starts_with(kAnything) &&
                        expression.ends_with(kAnything);
    if (around)
      texts.push_back(expression.substr(kAnything.size(), expression.size() - 2 * kAnything.size()));
  }
  return texts;
}

}  // namespace lathe
