#include "recipes/algorithm_checks.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/error.h"
#include "lib/numeric/hadamard.h"
#include "recipes/target_pattern.h"

namespace lathe {
namespace {

/// Options that the algorithm doesn't have, as a test's vocabulary may have them, are passed over.
template <class Entry>
auto made(const std::vector<Entry>& table, const AlgorithmChoice& choice)
    -> decltype(table.front().make(choice.options)) {
  const auto row = std::ranges::find(table, choice.name, &Entry::name);
  if (row == table.end()) return nullptr;
  Options options(row->options);
  for (const auto& [name, value] : choice.options.all()) options.set(name, value);
  return row->make(options);
}

}  // namespace

RecipeAlgorithms recipe_algorithms(const Recipe& recipe) {
  RecipeAlgorithms algorithms;
  for (const AlgorithmChoice& choice : recipe.transforms)
    algorithms.transforms.push_back(made(transforms(), choice));
  for (const Rule& rule : recipe.rules) algorithms.solvers.push_back(made(solvers(), rule.solver));
  return algorithms;
}

bool moves_scales(const Recipe& recipe) {
  return std::ranges::any_of(recipe.transforms, [](const AlgorithmChoice& choice) {
    const auto row = std::ranges::find(transforms(), choice.name, &TransformEntry::name);
    return row == transforms().end() || !row->rotates;
  });
}

int64_t recipe_rotation(const Recipe& recipe, const RecipeAlgorithms& algorithms) {
  for (size_t t = 0; t < algorithms.transforms.size(); ++t) {
    const int64_t block = algorithms.transforms[t] == nullptr ? 0 : algorithms.transforms[t]->rotation();
    if (block == 0) continue;
    if (std::ranges::find(kHadamardBlocks, block) == kHadamardBlocks.end()) {
      user_error("{}: transforms[{}] ({}): block {}: expected 16, 32, 64 or 128", recipe.file, t,
                 recipe.transforms[t].name, block);
    }
    if (algorithms.transforms.size() == 1) return block;
    user_error("{}: transforms: {} mixes the channels that {} chooses scales for; leave one of them out",
               recipe.file, recipe.transforms[t].name, recipe.transforms[t == 0 ? 1 : 0].name);
  }
  return 0;
}

std::vector<std::string> check_range_offers(const Recipe& recipe, const RecipeAlgorithms& algorithms) {
  const auto offering = std::ranges::find_if(
      algorithms.transforms, [](const auto& t) { return t != nullptr && t->offers_ranges(); });
  const bool offered = offering != algorithms.transforms.end();
  const std::string name_of_offering =
      offered ? recipe.transforms[static_cast<size_t>(offering - algorithms.transforms.begin())].name : "";
  std::vector<std::string> warnings;
  for (size_t i = 0; i < recipe.rules.size(); ++i) {
    if (algorithms.solvers[i] == nullptr) continue;
    const Rule& rule = recipe.rules[i];
    const RangeOffers wish = algorithms.solvers[i]->range_offers();
    if (wish == RangeOffers::required && !offered) {
      user_error(
          "{}: solver {}: offered_range: true, but no transform of the recipe offers ranges; add {{awq: "
          "{{clip: true}}}} to `transforms`, or leave it out",
          rule.where, rule.solver.name);
    }
    if (offered && wish != RangeOffers::unused && rule.scheme.shares_rows()) {
      user_error("{}: {} has rows that share scales, but {} offers a range for each; use `clip: false`",
                 rule.where, rule.scheme.describe(), name_of_offering);
    }
    if (wish != RangeOffers::unused || !offered) continue;
    warnings.push_back(
        fmt::format("{}: solver {} takes no offered ranges, so {} searches none "
                    "(`clip: false` says so{})",
                    rule.where, rule.solver.name, name_of_offering,
                    rule.solver.name == "gptq" ? "; `offered_range: true` takes them" : ""));
  }
  return warnings;
}

void check_streams(const Recipe& recipe, const RecipeAlgorithms& algorithms) {
  if (recipe.calibration.propagate != Propagate::reference) return;
  for (size_t i = 0; i < recipe.rules.size(); ++i) {
    if (algorithms.solvers[i] == nullptr || !algorithms.solvers[i]->needs().cross_gram) continue;
    user_error(
        "{}: solver {}: match_reference looks at what quantised layers leave beside the unquantised model, "
        "and calibration.propagate: reference runs the unquantised model alone; use propagate: quantised, or "
        "match_reference: 0",
        recipe.rules[i].where, recipe.rules[i].solver.name);
  }
}

void check_words_decide(const Recipe& recipe, const Plan& plan) {
  const std::vector<const LinearPlan*> linears = plan.linears();
  for (size_t i = 0; i < recipe.rules.size(); ++i) {
    for (const std::string& target : recipe.rules[i].targets) {
      const LinearPlan* other = nullptr;  // the first that matches, and goes elsewhere
      const bool decides = std::ranges::any_of(linears, [&](const LinearPlan* plan) {
        const bool own = plan->quantized && plan->rule == i;
        if ((!own && other != nullptr) || !target_matches(target, *plan->linear)) return false;
        if (!own) other = plan;
        return own;
      });
      if (decides) continue;
      LATHE_ASSERT(other != nullptr, "'{}' matches nothing", target);
      const std::string fate = other->quantized ? fmt::format("goes to {}, and the first match wins",
                                                              recipe.rules[other->rule].where)
                                                : other->reason;
      user_error(
          "{}: '{}' decides about no linear: '{}' {}; put the narrower rule first, or leave the word out",
          recipe.rules[i].where, target, other->linear->name, fate);
    }
  }
}

}  // namespace lathe
