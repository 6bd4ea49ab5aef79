// Tensors that a plan carries through.
#include <algorithm>
#include <regex>
#include <set>

#include "recipes/plan.h"

namespace lathe {
namespace {

/// Does one of the expressions that stand for modules outside the graph mean it?
bool is_untouched(const ModelGraph& graph, const std::string& module) {
  return std::ranges::any_of(graph.untouched, [&](const std::string& pattern) {
    return std::regex_match(module, std::regex(pattern.substr(std::string_view("re:").size())));
  });
}

}  // namespace

std::vector<std::string> carried_linears(const Plan& plan, const ModelGraph& graph,
                                         const std::map<std::string, TensorInfo>& tensors) {
  constexpr std::string_view kWeight = ".weight";
  std::vector<std::string> linears;
  if (graph.config.hidden_size == 0) return linears;  // of a family that nothing is known of
  const std::vector<PlannedLinear> quantized = plan.quantized();
  const auto is_part = [&](const std::string& module) {
    return std::ranges::any_of(
        quantized, [&](const PlannedLinear& l) { return l.name.find(module) != std::string::npos; });
  };
  const auto expected = graph.expected_tensors();
  for (const auto& [name, info] : tensors) {
    if (!name.ends_with(kWeight) || info.shape.size() != 2 || expected.contains(name)) continue;
    const std::string module = name.substr(0, name.size() - kWeight.size());
    if (module == graph.lm_head().name || is_untouched(graph, module) || is_part(module)) continue;
    linears.push_back(module);
  }
  return linears;
}

std::vector<std::string> names_outside_blocks(const ModelGraph& graph,
                                              const std::map<std::string, TensorInfo>& tensors) {
  std::set<std::string_view> prefixes;
  for (const Block& block : graph.blocks) prefixes.insert(block.prefix);
  std::vector<std::string> names;
  for (const auto& [name, info] : tensors) {
    bool in_block = false;
    for (size_t dot = name.find('.'); dot != std::string::npos && !in_block; dot = name.find('.', dot + 1))
      in_block = prefixes.contains(std::string_view(name).substr(0, dot));
    if (!in_block) names.push_back(name);
  }
  return names;
}

}  // namespace lathe
