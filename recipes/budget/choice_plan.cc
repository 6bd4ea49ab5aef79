#include "recipes/budget/choice_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "lib/base/error.h"
#include "lib/base/strings.h"
#include "recipes/budget/choice_groups.h"
#include "recipes/budget/layer_patterns.h"
#include "recipes/plan_outputs.h"

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
    if (candidate.left() && candidate.rule.activations) {
      user_error("{}: candidates[{}]: a linear that is left in floating point takes no `activations`",
                 candidate.rule.where, c);
    }
    if (candidate.block.has_value() == (target.gguf != nullptr)) continue;
    user_error("{}: candidates[{}]: {} for format {}; expected {}", candidate.rule.where, c,
               candidate.describe(), target.name,
               target.gguf != nullptr ? "a type of its blocks, such as {gguf: Q4_K}" : "a `scheme`");
  }
}

/// Of its weight in the checkpoint.
uint64_t stored_bytes(const Linear& linear, const std::map<std::string, TensorInfo>& tensors) {
  const auto found = tensors.find(linear.name + ".weight");
  const TensorInfo& info = found != tensors.end() ? found->second : tensors.at(linear.stored.value().tensor);
  return TensorInfo{info.dtype, {linear.out, linear.in}}.nbytes();
}

/// A candidate that is a scheme for all linears.
Recipe with_one(const Recipe& recipe, size_t c) {
  Recipe uniform = plain(recipe);
  uniform.rules = {as_rule(recipe.candidates[c], {"linear"}, recipe.candidates[c].rule.where)};
  return uniform;
}

/// The candidate everywhere; its outputs without their tensors.
Plan uniform_plan(const Recipe& recipe, size_t c, const ModelGraph& graph,
                  const std::map<std::string, TensorInfo>& tensors) {
  const Candidate& candidate = recipe.candidates[c];
  const std::string& where = candidate.rule.where;
  Plan plan;
  try {
    const Recipe uniform = with_one(recipe, c);
    plan = plan_linears(uniform, graph);
    check_outputs(plan, uniform, graph, tensors);
  } catch (const UserError& error) {
    const std::string reason = error.what(), known = where + ": ";
    user_error("{}: candidates[{}]: {}", where, c,
               reason.starts_with(known) ? reason.substr(known.size()) : reason);
  }
  if (!plan.outputs.front().open_tensors) return plan;
  user_error("{}: candidates[{}]: {}: how many bytes it takes is known only when it is written", where, c,
             candidate.describe());
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
  return loading_consumers(judge_output(plan, plan.outputs.front(), graph));
}

/// What no consumer loads by itself says so in the plan, as of any recipe; but candidates that nobody can
/// load together would make an artefact for none of those that load each.
std::vector<std::string> common_consumers(const Recipe& recipe, const std::map<size_t, Plan>& uniform,
                                          const Plan& mixed, const ModelGraph& graph) {
  const std::set<std::string> together = consumers_of(mixed, graph);
  std::string each;
  bool loaded = true;
  for (const auto& [c, plan] : uniform) {
    const std::set<std::string> names = consumers_of(plan, graph);
    loaded = loaded && !names.empty();
    each += fmt::format("{}{} by {}", each.empty() ? "" : "; ", recipe.candidates[c].describe(),
                        join_words({names.begin(), names.end()}));
  }
  if (together.empty() && loaded) {
    user_error("{}: candidates: no consumer of format {} loads all of them in one model ({})", recipe.file,
               mixed.outputs.front().target->name, each);
  }
  return {together.begin(), together.end()};
}

/// What a group takes in the output under each candidate. Keeps references.
class CandidateBytes {
 public:
  /// mixed: of all candidates, for the type of scales; uniform: of each that quantises.
  CandidateBytes(const Plan& mixed, const std::map<size_t, Plan>& uniform, const ModelGraph& graph,
                 const std::map<std::string, TensorInfo>& tensors)
      : mixed_(mixed), uniform_(uniform), graph_(graph), tensors_(tensors) {}

  uint64_t of(const ChoiceGroup& group, size_t candidate) const {
    const auto block = static_cast<size_t>(group.block);
    const auto plan = uniform_.find(candidate);
    uint64_t sum = 0;
    std::vector<std::pair<const LinearPlan*, uint64_t>>
        known;  // of linears that are alike one, as experts are
    for (const size_t i : group.linears) {
      if (plan == uniform_.end()) {
        sum += stored_bytes(graph_.part(block).linears[i], tensors_);
        continue;
      }
      const LinearPlan& linear = plan->second.part(block)[i];
      auto alike = std::ranges::find_if(known, [&](const auto& k) { return same_layout(*k.first, linear); });
      if (alike == known.end()) alike = known.insert(known.end(), {&linear, written_bytes(linear)});
      sum += alike->second;
    }
    return sum;
  }

 private:
  /// But for names.
  static bool same_layout(const LinearPlan& a, const LinearPlan& b) {
    const Linear &x = *a.linear, &y = *b.linear;
    return x.out == y.out && x.in == y.in && x.role == y.role && x.bias == y.bias &&
           x.input.expert.has_value() == y.input.expert.has_value() && a.group_index == b.group_index &&
           a.same_scheme(b);
  }
  uint64_t written_bytes(const LinearPlan& linear) const {
    uint64_t bytes = 0;
    for (const PlannedTensor& tensor : mixed_.outputs.front().target->layout(mixed_.planned(linear)))
      bytes += tensor.info.nbytes();
    return bytes;
  }

  const Plan& mixed_;
  const std::map<size_t, Plan>& uniform_;
  const ModelGraph& graph_;
  const std::map<std::string, TensorInfo>& tensors_;
};

ChoicePlan plan_stacked(const Recipe& recipe, const ModelGraph& graph,
                        const std::map<std::string, TensorInfo>& tensors) {
  std::map<size_t, Plan> uniform;  // of candidates that quantise
  for (size_t c = 0; c < recipe.candidates.size(); ++c)
    if (!recipe.candidates[c].left()) uniform.emplace(c, uniform_plan(recipe, c, graph, tensors));
  if (uniform.empty()) user_error("{}: candidates: all of them leave linears in floating point", recipe.file);
  ChoicePlan plan;
  plan.groups = stacked_groups(uniform.begin()->second, graph);
  for (ChoiceGroup& group : plan.groups) {
    for (size_t c = 0; c < recipe.candidates.size(); ++c) group.candidates.push_back(c);
  }
  plan.schemes.assign(recipe.candidates.size(), Scheme::as_they_are());
  for (const auto& [c, one] : uniform) {
    const std::vector<const LinearPlan*> linears = one.linears();
    const auto first = std::ranges::find_if(linears, [](const LinearPlan* l) { return l->quantized; });
    if (first != linears.end()) plan.schemes[c] = (*first)->scheme;
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
  const CandidateBytes bytes(mixed, uniform, graph, tensors);
  for (ChoiceGroup& group : plan.groups) {
    for (size_t c = 0; c < recipe.candidates.size(); ++c) group.bytes.push_back(bytes.of(group, c));
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

ChoicePlan plan_gguf_tensors(const Recipe& recipe, const ModelGraph& graph,
                             const std::map<std::string, TensorInfo>& tensors) {
  const Plan base = make_plan(floating_recipe(recipe), graph, tensors);
  ChoicePlan plan;
  plan.fixed_bytes = base.outputs.front().bytes;
  for (GgufGroup& one : gguf_groups(base, graph)) {
    const GgufTensorRule& rule = one.tensor->rule;
    plan.fixed_bytes -= GgufPlan{rule.gguf, one.tensor->type, rule.file_shape()}.bytes();
    ChoiceGroup& group = plan.groups.emplace_back(std::move(one.group));
    for (size_t c = 0; c < recipe.candidates.size(); ++c) {
      const GgmlType type = *recipe.candidates[c].block;
      if (!divides(type, rule.shape[1])) continue;
      group.candidates.push_back(c);
      group.bytes.push_back(GgufPlan{rule.gguf, type, rule.file_shape()}.bytes());
    }
    if (!group.candidates.empty()) continue;
    user_error(
        "{}: candidates: none of them can cut '{}', whose rows have {} values; add types of blocks of 32, "
        "such as {{gguf: Q5_0}}",
        recipe.file, rule.gguf, rule.shape[1]);
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

Recipe uniform_recipe(const Recipe& recipe, const ChoicePlan& plan, size_t candidate) {
  Recipe uniform = with_one(recipe, candidate);
  if (plan.scale_dtype) uniform.output.scale_dtype = plan.scale_dtype;
  return uniform;
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
      of_candidate.push_back(graph.part(static_cast<size_t>(group.block)).linears[i].name);
  }
  Recipe chosen = gguf ? floating_recipe(recipe) : plain(recipe);
  const auto layers = static_cast<int64_t>(graph.blocks.size());
  for (size_t c = 0; c < names.size(); ++c) {
    if (names[c].empty()) continue;
    const std::vector<std::string> patterns = layer_patterns(names[c], layers);
    const std::string where = fmt::format("{}: candidates[{}]", recipe.candidates[c].rule.where, c);
    if (recipe.candidates[c].left()) {
      chosen.ignore.insert(chosen.ignore.end(), patterns.begin(), patterns.end());
      continue;
    }
    if (!gguf) chosen.rules.push_back(as_rule(recipe.candidates[c], patterns, where));
    if (!gguf) continue;
    for (const std::string& pattern : patterns)
      chosen.output.gguf_tensor_types.push_back({pattern, *recipe.candidates[c].block, where});
  }
  if (plan.scale_dtype) chosen.output.scale_dtype = plan.scale_dtype;  // whichever candidates were taken
  return chosen;
}

}  // namespace lathe
