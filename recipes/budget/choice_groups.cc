#include "recipes/budget/choice_groups.h"

#include <algorithm>
#include <set>

#include "lib/model/fused_linears.h"

namespace lathe {
namespace {

double count_of(const Linear& linear) {
  return static_cast<double>(linear.out) * static_cast<double>(linear.in);
}

/// Where a linear of that name stands: block, index.
std::map<std::string, std::pair<size_t, size_t>> places_of(const ModelGraph& graph) {
  std::map<std::string, std::pair<size_t, size_t>> places;
  for (size_t b = 0; b < graph.blocks.size(); ++b) {
    for (size_t i = 0; i < graph.blocks[b].linears.size(); ++i)
      places[graph.blocks[b].linears[i].name] = {b, i};
  }
  return places;
}

}  // namespace

std::vector<ChoiceGroup> stacked_groups(const Plan& plan, const ModelGraph& graph) {
  std::vector<ChoiceGroup> groups;
  for (size_t b = 0; b < plan.parts(); ++b) {
    std::map<std::pair<std::string, size_t>, size_t> places;
    for (size_t i = 0; i < plan.part(b).size(); ++i) {
      const LinearPlan& linear = plan.part(b)[i];
      if (!linear.quantized) continue;
      const std::string fused = fused_with(*linear.linear);
      const auto [place, is_new] = places.emplace(std::pair(fused, linear.rule), groups.size());
      if (is_new) {
        ChoiceGroup& group = groups.emplace_back();
        group.name = b < graph.blocks.size() ? graph.blocks[b].prefix + " " + fused : linear.linear->name;
        group.block = static_cast<int64_t>(b);
        if (linear.linear->input.expert) group.tied = "experts";
      }
      ChoiceGroup& group = groups[place->second];
      group.linears.push_back(i);
      group.weights += count_of(*linear.linear);
    }
  }
  return groups;
}

std::vector<GgufGroup> gguf_groups(const Plan& plan, const ModelGraph& graph) {
  const auto places = places_of(graph);
  const std::vector<std::string> names = plan.kept();
  const std::set<std::string> kept(names.begin(), names.end());
  std::vector<GgufGroup> groups;
  std::map<std::string, size_t> stacks;
  for (const GgufOutputTensor& tensor : plan.outputs.front().gguf->tensors) {
    const GgufTensorRule& rule = tensor.rule;
    if (!rule.is_matrix() || rule.plain || kept.contains(rule.linear)) continue;
    const auto [place, is_new] = stacks.emplace(rule.gguf, groups.size());
    if (is_new) {
      GgufGroup& made = groups.emplace_back();
      made.tensor = &tensor;
      made.group.name = rule.gguf;
      if (rule.linear.empty()) made.group.table = rule.hf;
    }
    ChoiceGroup& group = groups[place->second].group;
    group.weights += static_cast<double>(rule.shape[0]) * static_cast<double>(rule.shape[1]);
    if (rule.linear.empty()) continue;
    const auto& [block, index] = places.at(rule.linear);
    group.block = static_cast<int64_t>(block);
    group.linears.push_back(index);
  }
  return groups;
}

}  // namespace lathe
