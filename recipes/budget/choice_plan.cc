#include "recipes/budget/choice_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "formats/consumers/consumers.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"
#include "lib/model/fused_linears.h"
#include "recipes/budget/layer_patterns.h"

namespace lathe {
namespace {

AlgorithmChoice floating_solver() { return {"float", {}}; }

Rule as_rule(const Candidate& candidate, std::vector<std::string> targets, const std::string& where) {
  Rule rule = candidate.rule;
  rule.targets = std::move(targets);
  rule.where = where;
  return rule;
}

/// Without what chooses.
Recipe plain(const Recipe& recipe) {
  Recipe result = recipe;
  result.candidates.clear();
  result.budget.reset();
  result.sensitivity = {};
  return result;
}

const Target& output_format(const Recipe& recipe) {
  std::vector<std::string> checkpoints;
  for (const std::string& format : recipe.output.formats) {
    if (find_kernel_layout(format) == nullptr) checkpoints.push_back(format);
  }
  if (checkpoints.size() != 1) {
    user_error("{}: output.formats: candidates are weighed by their bytes in one checkpoint format; found {}",
               recipe.file, checkpoints.size());
  }
  return find_target(checkpoints.front());
}

/// Types of blocks are for GGUF, and nothing else is.
void check_kinds(const Recipe& recipe, const Target& target) {
  for (size_t c = 0; c < recipe.candidates.size(); ++c) {
    const Candidate& candidate = recipe.candidates[c];
    if (candidate.block.has_value() == (target.gguf != nullptr)) continue;
    user_error("{}: candidates[{}]: {} for format {}; expected {}", candidate.rule.where, c,
               candidate.describe(), target.name,
               target.gguf != nullptr ? "a type of its blocks, such as {gguf: Q4_K}" : "a `scheme`");
  }
}

double count_of(const Linear& linear) {
  return static_cast<double>(linear.out) * static_cast<double>(linear.in);
}

/// The candidate everywhere.
Plan uniform_plan(const Recipe& recipe, size_t c, const ModelGraph& graph,
                  const std::map<std::string, TensorInfo>& tensors) {
  const Candidate& candidate = recipe.candidates[c];
  const std::string& where = candidate.rule.where;
  Recipe uniform = plain(recipe);
  uniform.rules = {as_rule(candidate, {"linear"}, where)};
  Plan plan;
  try {
    plan = make_plan(uniform, graph, tensors);
  } catch (const UserError& error) {
    const std::string reason = error.what(), known = where + ": ";
    user_error("{}: candidates[{}]: {}", where, c,
               reason.starts_with(known) ? reason.substr(known.size()) : reason);
  }
  if (!plan.outputs.front().open_tensors) return plan;
  user_error("{}: candidates[{}]: {}: how many bytes it takes is known only when it is written", where, c,
             candidate.describe());
}

std::vector<ChoiceGroup> fused_groups(const Plan& plan, const ModelGraph& graph) {
  std::vector<ChoiceGroup> groups;
  for (size_t b = 0; b < graph.blocks.size(); ++b) {
    std::map<std::string, size_t> places;
    for (size_t i = 0; i < plan.blocks[b].size(); ++i) {
      const LinearPlan& linear = plan.blocks[b][i];
      if (!linear.quantized) continue;
      const std::string fused = fused_with(*linear.linear);
      const auto [place, is_new] = places.emplace(fused, groups.size());
      if (is_new) {
        ChoiceGroup& group = groups.emplace_back();
        group.name = graph.blocks[b].prefix + " " + fused;
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

/// Candidate number `first` + k for the k-th group, all the way round; tied groups together.
std::vector<size_t> in_turn(const std::vector<ChoiceGroup>& groups, size_t first, size_t candidates) {
  std::vector<size_t> choice;
  std::map<std::string, size_t> tied;
  size_t next = first;
  for (const ChoiceGroup& group : groups) {
    const auto known = group.tied.empty() ? tied.end() : tied.find(group.tied);
    choice.push_back(known != tied.end() ? known->second : next++ % candidates);
    if (!group.tied.empty()) tied.emplace(group.tied, choice.back());
  }
  return choice;
}

std::set<std::string> consumers_of(const Plan& plan, const ModelGraph& graph) {
  const HeadCounts heads{graph.config.num_heads, graph.config.num_kv_heads, graph.config.head_dim};
  const OutputPlan& output = plan.outputs.front();
  const std::vector<ConsumerVerdict> verdicts = judge_consumers(output.target->name, plan.quantized(), heads);
  std::set<std::string> kinds, names;
  for (const ConsumerVerdict& verdict : verdicts) kinds.insert(verdict.linears);
  if (kinds.size() > 1) kinds.erase("");  // of readers, whose verdict is about all linears at once
  // It has to have a kernel for each kind of linears; what "vLLM" runs, "vLLM on Hopper" does, too.
  for (const ConsumerVerdict& one : verdicts) {
    const auto runs = [&](const std::string& kind) {
      return std::ranges::any_of(verdicts, [&](const ConsumerVerdict& verdict) {
        const bool fine =
            !verdict.kernel.empty() && (verdict.problem.empty() || !verdict.tensor_parallel.empty());
        const bool same =
            one.consumer == verdict.consumer || one.consumer.starts_with(verdict.consumer + " ");
        return fine && same && (verdict.linears == kind || verdict.linears.empty());
      });
    };
    if (std::ranges::all_of(kinds, runs)) names.insert(one.consumer);
  }
  return names;
}

/// What no consumer loads by itself says so in the plan, as of any recipe; but candidates that nobody can
/// load together would make an artefact for none of those that load each.
std::vector<std::string> common_consumers(const Recipe& recipe, const std::vector<Plan>& uniform,
                                          const Plan& mixed, const ModelGraph& graph) {
  const std::set<std::string> together = consumers_of(mixed, graph);
  std::string each;
  bool loaded = true;
  for (size_t c = 0; c < uniform.size(); ++c) {
    const std::set<std::string> names = consumers_of(uniform[c], graph);
    loaded = loaded && !names.empty();
    each += fmt::format("{}{} by {}", c > 0 ? "; " : "", recipe.candidates[c].describe(),
                        join_words({names.begin(), names.end()}));
  }
  if (together.empty() && loaded) {
    user_error("{}: candidates: no consumer of format {} loads all of them in one model ({})", recipe.file,
               mixed.outputs.front().target->name, each);
  }
  return {together.begin(), together.end()};
}

ChoicePlan plan_stacked(const Recipe& recipe, const ModelGraph& graph,
                        const std::map<std::string, TensorInfo>& tensors) {
  std::vector<Plan> uniform;
  for (size_t c = 0; c < recipe.candidates.size(); ++c)
    uniform.push_back(uniform_plan(recipe, c, graph, tensors));
  ChoicePlan plan;
  plan.groups = fused_groups(uniform.front(), graph);
  for (ChoiceGroup& group : plan.groups) {
    for (size_t c = 0; c < recipe.candidates.size(); ++c) group.candidates.push_back(c);
  }
  for (const Plan& one : uniform) {
    for (const auto& block : one.blocks) {
      const auto first = std::ranges::find_if(block, &LinearPlan::quantized);
      if (first == block.end()) continue;
      plan.schemes.push_back(first->scheme);
      break;
    }
  }
  // All of them in one model, so that what the format can't hold together is known, and the scales' type.
  Plan mixed;
  std::vector<size_t> choice;
  const size_t classes = plan.groups.size();
  for (size_t first = 0; first == 0 || first < recipe.candidates.size(); first += classes) {
    choice = in_turn(plan.groups, first, recipe.candidates.size());
    try {
      mixed = make_plan(chosen_recipe(recipe, graph, plan, choice), graph, tensors);
    } catch (const UserError& error) {
      user_error("{}: candidates: they can't stand in one model: {}", recipe.file, error.what());
    }
  }
  if (mixed.scale_dtype != DType::F32) plan.scale_dtype = mixed.scale_dtype;
  plan.consumers = common_consumers(recipe, uniform, mixed, graph);
  const Target& target = *mixed.outputs.front().target;
  for (ChoiceGroup& group : plan.groups) {
    for (const Plan& one : uniform) {
      uint64_t bytes = 0;
      for (const size_t i : group.linears) {
        for (const PlannedTensor& tensor :
             target.layout(mixed.planned(one.blocks[static_cast<size_t>(group.block)][i])))
          bytes += tensor.info.nbytes();
      }
      group.bytes.push_back(bytes);
    }
  }
  plan.fixed_bytes = mixed.outputs.front().bytes - plan.bytes(choice);
  return plan;
}

Recipe floating_recipe(const Recipe& recipe) {
  Recipe result = plain(recipe);
  result.rules = {{.targets = {"linear"},
                   .scheme = Scheme::as_they_are(),
                   .solver = floating_solver(),
                   .where = recipe.file}};
  return result;
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

ChoicePlan plan_gguf_tensors(const Recipe& recipe, const ModelGraph& graph,
                             const std::map<std::string, TensorInfo>& tensors) {
  const Plan base = make_plan(floating_recipe(recipe), graph, tensors);
  const auto places = places_of(graph);
  const std::vector<std::string> kept = base.kept();
  ChoicePlan plan;
  plan.fixed_bytes = base.outputs.front().bytes;
  std::map<std::string, size_t> stacks;
  for (const GgufOutputTensor& tensor : base.outputs.front().gguf->tensors) {
    const GgufTensorRule& rule = tensor.rule;
    const bool left = !rule.linear.empty() && std::ranges::find(kept, rule.linear) != kept.end();
    if (!rule.is_matrix() || rule.plain || left) continue;
    plan.fixed_bytes -= GgufPlan{rule.gguf, tensor.type, rule.shape}.bytes();
    const auto [place, is_new] = stacks.emplace(rule.gguf, plan.groups.size());
    if (is_new) {
      ChoiceGroup& group = plan.groups.emplace_back();
      group.name = rule.gguf;
      if (rule.linear.empty()) group.table = rule.hf;
      for (size_t c = 0; c < recipe.candidates.size(); ++c) {
        const GgmlType type = *recipe.candidates[c].block;
        if (!divides(type, rule.shape[1])) continue;
        group.candidates.push_back(c);
        group.bytes.push_back(GgufPlan{rule.gguf, type, rule.file_shape()}.bytes());
      }
      if (group.candidates.empty()) {
        user_error(
            "{}: candidates: none of them can cut '{}', whose rows have {} values; add types of blocks of "
            "32, "
            "such as {{gguf: Q5_0}}",
            recipe.file, rule.gguf, rule.shape[1]);
      }
    }
    ChoiceGroup& group = plan.groups[place->second];
    group.weights += static_cast<double>(rule.shape[0]) * static_cast<double>(rule.shape[1]);
    if (rule.linear.empty()) continue;
    const auto& [block, index] = places.at(rule.linear);
    group.block = static_cast<int64_t>(block);
    group.linears.push_back(index);
  }
  plan.consumers = {"llama.cpp"};
  return plan;
}

}  // namespace

double ChoicePlan::weights() const {
  double sum = 0;
  for (const ChoiceGroup& group : groups) sum += group.weights;
  return sum;
}

uint64_t ChoicePlan::bytes(const std::vector<size_t>& choice) const {
  uint64_t sum = 0;
  for (size_t g = 0; g < groups.size(); ++g) sum += groups[g].bytes[choice[g]];
  return sum;
}

ChoicePlan plan_choices(const Recipe& recipe, const ModelGraph& graph,
                        const std::map<std::string, TensorInfo>& tensors) {
  const Target& target = output_format(recipe);
  check_kinds(recipe, target);
  return target.gguf != nullptr ? plan_gguf_tensors(recipe, graph, tensors)
                                : plan_stacked(recipe, graph, tensors);
}

Recipe chosen_recipe(const Recipe& recipe, const ModelGraph& graph, const ChoicePlan& plan,
                     const std::vector<size_t>& choice) {
  std::vector<std::vector<std::string>> names(recipe.candidates.size());
  const bool gguf = recipe.candidates.front().block.has_value();
  for (size_t g = 0; g < plan.groups.size(); ++g) {
    const ChoiceGroup& group = plan.groups[g];
    auto& of_candidate = names[group.candidates[choice[g]]];
    if (gguf) of_candidate.push_back(group.name);
    if (gguf) continue;
    for (const size_t i : group.linears)
      of_candidate.push_back(graph.blocks[static_cast<size_t>(group.block)].linears[i].name);
  }
  Recipe chosen = gguf ? floating_recipe(recipe) : plain(recipe);
  const auto layers = static_cast<int64_t>(graph.blocks.size());
  for (size_t c = 0; c < names.size(); ++c) {
    if (names[c].empty()) continue;
    const std::vector<std::string> patterns = layer_patterns(names[c], layers);
    const std::string where = fmt::format("{}: candidates[{}]", recipe.candidates[c].rule.where, c);
    if (!gguf) chosen.rules.push_back(as_rule(recipe.candidates[c], patterns, where));
    if (!gguf) continue;
    for (const std::string& pattern : patterns)
      chosen.output.gguf_tensor_types.push_back({pattern, *recipe.candidates[c].block, where});
  }
  if (plan.scale_dtype) chosen.output.scale_dtype = plan.scale_dtype;  // whichever candidates were taken
  return chosen;
}

}  // namespace lathe
