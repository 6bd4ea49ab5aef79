// The plan for people.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "lib/base/strings.h"
#include "lib/model/fused_linears.h"
#include "recipes/algorithm_checks.h"
#include "recipes/plan.h"

namespace lathe {
namespace {

std::string describe_experts(const ExpertsConfig& experts, const ExpertPolicy& policy) {
  const auto sparse = std::ranges::count(experts.layers, true);
  const char* fallback =
      policy.fallback == ExpertFallback::all_tokens ? "measured on all tokens" : "rounded without statistics";
  return fmt::format(
      "experts    {} in each of {} blocks, {} for a token; one that fewer than {} tokens reach is {} ({})\n",
      experts.count, sparse, experts.per_token, policy.min_tokens, fallback, name_of(policy.fallback));
}

/// The grids of a rule's weights and inputs, and how a static one of inputs is found.
std::string describe_rule(const Rule& rule) {
  if (!rule.activations) return rule.scheme.describe();
  const std::string text = with_input(rule.scheme.describe(), rule.activations->scheme);
  if (!rule.activations->scheme.calibrated()) return text;
  return fmt::format("{} ({})", text, name_of(rule.activations->observer.method));
}

std::string last_name(const std::string& name) { return name.substr(name.rfind('.') + 1); }

/// Roles of linears, each once, and of how many experts they are.
std::string describe_linears(const std::vector<const Linear*>& linears) {
  std::vector<std::string> roles;
  std::set<int64_t> experts;
  for (const Linear* linear : linears) {
    const std::string role(name_of(linear->role));
    if (std::ranges::find(roles, role) == roles.end()) roles.push_back(role);
    if (linear->input.expert) experts.insert(*linear->input.expert);
  }
  const std::string text = fmt::format("{}", fmt::join(roles, ", "));
  return experts.size() > 1 ? fmt::format("{} of {} experts", text, experts.size()) : text;
}

std::vector<std::string> fused_of(const Block& block) {
  std::vector<std::string> stacks;
  for (const auto& stack : fused_stacks(block)) stacks.push_back(describe_linears(stack));
  return stacks;
}

/// Of an expert's own edges, which are all alike, only the first one's.
std::vector<std::string> folds_of(const Block& block) {
  std::vector<std::string> folds;
  for (const ScaleEdge& edge : block.edges) {
    if (edge.input.expert.value_or(0) > 0) continue;
    folds.push_back(fmt::format(
        "{} -> {}{}{}", last_name(edge.producer), describe_linears(block.consumers(edge)),
        edge.input.expert ? " (each expert)" : "", edge.closed.empty() ? "" : " closed: " + edge.closed));
  }
  return folds;
}

/// A line for all blocks that are alike.
std::string describe_blocks(const std::string& heading, const ModelGraph& graph,
                            std::vector<std::string> (*of_block)(const Block&)) {
  std::vector<std::pair<std::string, std::vector<size_t>>> kinds;
  for (size_t b = 0; b < graph.blocks.size(); ++b) {
    const std::string text = fmt::format("{}", fmt::join(of_block(graph.blocks[b]), "; "));
    const auto kind = std::ranges::find(kinds, text, &std::pair<std::string, std::vector<size_t>>::first);
    if (kind != kinds.end()) {
      kind->second.push_back(b);
    } else {
      kinds.push_back({text, {b}});
    }
  }
  std::string text;
  for (const auto& [words, blocks] : kinds) {
    if (words.empty()) continue;
    const bool adjoining = blocks.back() - blocks.front() + 1 == blocks.size();
    const std::string where = blocks.size() == 1 ? fmt::format("block {}", blocks.front())
                              : adjoining
                                  ? fmt::format("blocks {} to {}", blocks.front(), blocks.back())
                                  : fmt::format("block {} and {} more", blocks.front(), blocks.size() - 1);
    text += fmt::format("{:<10} {} ({})\n", heading, words, where);
  }
  return text;
}

std::string describe_calibration(const Recipe& recipe, const ModelGraph& graph) {
  const Recipe::Calibration& calibration = recipe.calibration;
  std::string text = fmt::format("calibrate  {} samples of {}{} tokens, seed {}\n", calibration.samples,
                                 calibration.packing == Packing::document ? "up to " : "",
                                 calibration.seq_len, calibration.seed);
  text += fmt::format("propagate  {}: a block is calibrated on what the {} blocks before it give\n",
                      name_of(calibration.propagate),
                      calibration.propagate == Propagate::quantised ? "quantised" : "floating-point");
  if (graph.config.experts) text += describe_experts(*graph.config.experts, calibration.experts);
  return text;
}

}  // namespace

std::string describe_plan(const Plan& plan, const Recipe& recipe, const ModelGraph& graph) {
  const std::vector<PlannedLinear> quantized = plan.quantized();
  const std::vector<const LinearPlan*> linears = plan.linears();
  const bool several = plan.outputs.size() > 1;
  double weights = 0;
  for (const PlannedLinear& linear : quantized)
    weights += static_cast<double>(linear.out) * static_cast<double>(linear.in);
  std::string text = fmt::format("model      {} ({} blocks, hidden {}, {})\n", recipe.model.string(),
                                 graph.blocks.size(), graph.config.hidden_size, graph.config.model_type);
  if (graph.config.hidden_size == 0) {
    text = fmt::format("model      {} ({} matrices of an unknown family, {})\n", recipe.model.string(),
                       graph.blocks.size(), graph.config.model_type);
  }
  for (size_t i = 0; i < recipe.rules.size(); ++i) {
    const auto count =
        std::ranges::count_if(linears, [&](const LinearPlan* p) { return p->quantized && p->rule == i; });
    const Rule& rule = recipe.rules[i];
    text += fmt::format("rule {}     {} -> {} linears, {}, solver {}\n", i, join_words(rule.targets), count,
                        describe_rule(rule), rule.solver.name);
  }
  if (graph.config.hidden_size > 0) text += describe_blocks("fused", graph, fused_of);
  if (!recipe.transforms.empty() && !moves_scales(recipe)) {
    text += fmt::format(
        "transform  {} rotates the inputs of {} linears, and their weights, in blocks of {} channels "
        "(online: no fold)\n",
        recipe.transforms.front().name, quantized.size(), quantized.front().scheme.hadamard);
  }
  for (const AlgorithmChoice& transform : recipe.transforms) {
    if (!moves_scales(recipe)) break;
    const std::vector<ScaleEdge>& edges = graph.blocks.front().edges;
    const auto closed = std::ranges::find_if(edges, [](const ScaleEdge& e) { return !e.closed.empty(); });
    const std::string not_through =
        closed == edges.end()
            ? ""
            : fmt::format(", but through {}: {}", last_name(closed->producer), closed->closed);
    text += fmt::format("transform  {} over {} edges a block{}\n", transform.name,
                        std::ranges::count(edges, "", &ScaleEdge::closed), not_through);
  }
  if (moves_scales(recipe)) text += describe_blocks("folds", graph, folds_of);
  std::map<std::string, std::vector<std::string>> reasons;
  for (const LinearPlan* p : linears) {
    if (!p->quantized) reasons[p->reason].push_back(p->linear->name);
  }
  for (const auto& [reason, names] : reasons) {
    text += fmt::format("kept       {}{} ({})\n", names.front(),
                        names.size() > 1 ? fmt::format(" and {} more", names.size() - 1) : "", reason);
  }
  if (plan.kv_cache)
    text += fmt::format("kv cache   {}{}\n", plan.kv_cache->describe(),
                        plan.kv_cache->calibrated() ? ", scales of each layer from the calibration" : "");
  if (recipe.calibration.none) {
    text += "calibrate  no data: each weight is quantised by itself, one at a time\n";
  } else {
    text += describe_calibration(recipe, graph);
  }
  if (recipe.sensitivity.of_rules) {
    text += fmt::format(
        "measure    what each group{} loses by its rule, on {} samples held out, before the run\n",
        recipe.sensitivity.linears ? " and each of its linears" : "", recipe.sensitivity.held_out);
  }
  if (recipe.report.activations) text += "report     what the inputs of quantised linears look like, too\n";
  text += fmt::format("weights    {:.0f} quantised at {:.3f} bits each with scales\n", weights,
                      plan.bits_per_weight(plan.outputs.front()));
  for (const OutputPlan& output : plan.outputs) {
    const std::string bits =
        several ? fmt::format(", {:.3f} bits a quantised weight", plan.bits_per_weight(output)) : "";
    text += fmt::format("output     {}: {} -> {}{}{}\n", output.target->name, human_bytes(plan.input_bytes),
                        human_bytes(output.bytes), output.open_tensors ? " and 4 bytes for each outlier" : "",
                        bits);
    if (output.gguf)
      for (const std::string& line : type_lines(*output.gguf)) text += fmt::format("types      {}\n", line);
  }
  for (const OutputPlan& output : plan.outputs) {
    const std::string format = several ? output.target->name + ": " : std::string();
    for (const std::string& line : consumer_lines(plan, output, graph))
      text += fmt::format("consumer   {}{}\n", format, line);
  }
  for (const LayoutPlan& layout : plan.layouts) {
    text += fmt::format("layout     {}: {} for {} ({})\n", layout.layout->name, human_bytes(layout.bytes),
                        layout.layout->kernel, layout.layout->gpus);
  }
  return text;
}

}  // namespace lathe
