#include "apps/quantize/mixed/rules_sensitivity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "apps/quantize/mixed/measure.h"
#include "apps/quantize/mixed/mixture.h"
#include "apps/quantize/mixed/sensitivity_file.h"
#include "apps/quantize/request_checks.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "recipes/budget/choice_plan.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

bool is_checkpoint(const std::string& format) { return find_kernel_layout(format) == nullptr; }

/// The rules' schemes and solvers as candidates, each once, and which of them a rule is.
struct RuleCandidates {
  Recipe recipe;
  std::vector<size_t> of_rule;
};

RuleCandidates as_candidates(const Recipe& recipe) {
  RuleCandidates made{recipe, {}};
  made.recipe.rules.clear();
  made.recipe.transforms.clear();
  made.recipe.kv_cache.reset();
  std::erase_if(made.recipe.output.formats, [](const std::string& format) { return !is_checkpoint(format); });
  made.recipe.output.formats.resize(1);  // bytes don't matter
  if (find_target(made.recipe.output.formats.front()).gguf != nullptr) {
    user_error(
        "{}: sensitivity: format {} rounds by itself, to types that no rule names; list `candidates` of "
        "them, as recipes/mixed-4.25bpw.yaml says",
        recipe.file, made.recipe.output.formats.front());
  }
  std::vector<Candidate>& candidates = made.recipe.candidates;
  for (const Rule& rule : recipe.rules) {
    const Candidate candidate{.rule = rule};
    const auto same = [&](const Candidate& other) {
      return candidate_json(other) == candidate_json(candidate);
    };
    made.of_rule.push_back(static_cast<size_t>(std::ranges::find_if(candidates, same) - candidates.begin()));
    if (made.of_rule.back() == candidates.size()) candidates.push_back(candidate);
  }
  return made;
}

/// Groups that a rule quantises, each under that rule alone.
ChoicePlan plan_rules(const Recipe& recipe, const RuleCandidates& made, const ModelFolder& model) {
  const auto& tensors = model.checkpoint->tensors();
  const Plan rules = make_plan(recipe, model.graph, tensors);
  ChoicePlan plan = plan_choices(made.recipe, model.graph, tensors);
  const auto of = [&](const ChoiceGroup& group) -> const LinearPlan& {
    return rules.blocks[static_cast<size_t>(group.block)][group.linears.front()];
  };
  std::erase_if(plan.groups, [&](const ChoiceGroup& group) { return !of(group).quantized; });
  for (ChoiceGroup& group : plan.groups) {
    const size_t candidate = made.of_rule[of(group).rule];
    const auto place = std::ranges::find(group.candidates, candidate) - group.candidates.begin();
    group.bytes = {group.bytes[static_cast<size_t>(place)]};
    group.candidates = {candidate};
  }
  return plan;
}

}  // namespace

void measure_rules(const RunRequest& request, const Recipe& recipe) {
  const ModelFolder model = open_source(recipe);
  check_texts_exist(recipe);
  check_output_apart(recipe);
  const RuleCandidates made = as_candidates(recipe);
  const ChoicePlan plan = plan_rules(recipe, made, model);
  const fs::path file = sensitivity_place(recipe);
  if (fs::exists(file)) {
    losses_for(read_sensitivity(file), file, made.recipe, model, plan);
    return;
  }
  make_folder(output_place(file).parent_path());
  Progress progress(request.quiet);
  const SensitivityTable table = measure_candidates(request, made.recipe, model, plan, progress);
  write_sensitivity(file, table);
  std::vector<std::string> names;
  for (const Candidate& candidate : made.recipe.candidates) names.push_back(candidate.describe());
  if (!request.quiet) fmt::print("{}written to {}\n", describe_sensitivity(table, names), file.string());
}

}  // namespace lathe
