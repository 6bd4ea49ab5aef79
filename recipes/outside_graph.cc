// Tensors that a plan carries through.
#include <algorithm>
#include <regex>
#include <string_view>
#include <unordered_set>

#include "recipes/plan.h"

namespace lathe {
namespace {

/// Does one of the expressions that stand for modules outside the graph mean it?
bool is_untouched(const ModelGraph& graph, const std::string& module) {
  return std::ranges::any_of(graph.untouched, [&](const std::string& pattern) {
    return std::regex_match(module, std::regex(pattern.substr(std::string_view("re:").size())));
  });
}

/// Names of the modules that have parameters in the graph, which are the graph's.
std::unordered_set<std::string_view> modules_of(const ModelGraph& graph) {
  std::unordered_set<std::string_view> modules = {graph.embedding, graph.final_norm().name,
                                                  graph.lm_head().name};
  for (const Block& block : graph.blocks) {
    for (const Norm* norm : block.norms()) modules.insert(norm->name);
    for (const Linear& linear : block.linears) modules.insert(linear.name);
  }
  return modules;
}

}  // namespace

std::vector<std::string> carried_linears(const Plan& plan, const ModelGraph& graph,
                                         const std::map<std::string, TensorInfo>& tensors) {
  constexpr std::string_view kWeight = ".weight";
  std::vector<std::string> linears;
  if (graph.config.hidden_size == 0) return linears;  // of a family that nothing is known of
  const auto is_part = [&](const std::string& module) {
    const auto names_it = [&](const LinearPlan& linear) {
      return linear.quantized && linear.linear->name.find(module) != std::string::npos;
    };
    return std::ranges::any_of(plan.blocks,
                               [&](const auto& block) { return std::ranges::any_of(block, names_it); });
  };
  const auto known = modules_of(graph);
  for (const auto& [name, info] : tensors) {
    if (!name.ends_with(kWeight) || info.shape.size() != 2) continue;
    const std::string_view module = std::string_view(name).substr(0, name.size() - kWeight.size());
    if (known.contains(module)) continue;
    std::string unknown(module);
    if (!is_untouched(graph, unknown) && !is_part(unknown)) linears.push_back(std::move(unknown));
  }
  return linears;
}

std::vector<std::string> names_outside_blocks(const ModelGraph& graph,
                                              const std::map<std::string, TensorInfo>& tensors) {
  std::unordered_set<std::string_view> prefixes;
  for (const Block& block : graph.blocks) prefixes.insert(block.prefix);
  std::string_view block;  // that the last tensor stood in, as mostly the next one does
  const auto in_block = [&](std::string_view name) {
    if (!block.empty() && name.starts_with(block) && name.substr(block.size()).starts_with('.')) return true;
    for (size_t dot = name.find('.'); dot != std::string_view::npos; dot = name.find('.', dot + 1)) {
      const auto found = prefixes.find(name.substr(0, dot));
      if (found == prefixes.end()) continue;
      block = *found;
      return true;
    }
    return false;
  };
  std::vector<std::string> names;
  for (const auto& [name, info] : tensors)
    if (!in_block(name)) names.push_back(name);
  return names;
}

}  // namespace lathe
