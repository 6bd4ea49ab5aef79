#include "apps/quantize/mixed/unmeasured.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "apps/quantize/memory.h"
#include "apps/quantize/mixed/vram_budget.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

using nlohmann::json;

/// Pairs of group and candidate; with each linear by itself those, too.
size_t variants_of(const Recipe& recipe, const ChoicePlan& plan) {
  size_t variants = 0;
  for (const ChoiceGroup& group : plan.groups) {
    const size_t linears = recipe.sensitivity.linears && group.linears.size() > 1 ? group.linears.size() : 0;
    variants += group.candidates.size() * (1 + linears);
  }
  return variants;
}

json size_json(const Mixture& mixture) {
  return {{"bytes", mixture.bytes}, {"bits_per_weight", mixture.bits_per_weight}};
}

/// Of all tensors, that a budget leaves; nothing of one of loss.
std::optional<uint64_t> bytes_of(const Budget& budget, const ChoicePlan& plan) {
  if (budget.size) return budget.size;
  if (!budget.bits_per_weight) return std::nullopt;
  return plan.fixed_bytes + static_cast<uint64_t>(*budget.bits_per_weight * plan.weights() / 8);
}

ChoiceLosses losses_by(const ChoicePlan& plan, double (*loss)(double weights, double bytes)) {
  ChoiceLosses losses;
  for (const ChoiceGroup& group : plan.groups) {
    auto& row = losses.emplace_back();
    for (const uint64_t bytes : group.bytes) row.push_back(loss(group.weights, static_cast<double>(bytes)));
  }
  return losses;
}

std::string describe_room(const Recipe& recipe, const ChoicePlan& plan, const PossibleMixtures& possible) {
  std::string text = fmt::format("budget     {}: ", recipe.budget->describe());
  const auto bytes = bytes_of(possible.budget, plan);
  if (!bytes) {
    text += "how many bytes that takes is known when groups are measured";
  } else if (*bytes >= possible.most.bytes) {
    text += fmt::format("{} for all tensors, and no mixture takes more than {}", human_bytes(*bytes),
                        human_bytes(possible.most.bytes));
  } else {
    text += fmt::format("{} for all tensors, of which {} are no candidate's; {} beyond the least possible",
                        human_bytes(*bytes), human_bytes(plan.fixed_bytes),
                        human_bytes(*bytes - possible.least.bytes));
  }
  return text +
         fmt::format(
             "\nstand-in   {:.3f} bits/weight, {}: what follows is of this mixture, of {}, until groups "
             "are measured\n",
             possible.stand_in.bits_per_weight, human_bytes(possible.stand_in.bytes),
             bytes ? "sizes alone" : "the largest size");
}

}  // namespace

PossibleMixtures possible_mixtures(const Recipe& recipe, const ModelFolder& model, const ChoicePlan& plan) {
  const ChoiceLosses by_size = losses_by(plan, [](double, double bytes) { return -bytes; });
  const BudgetChoice sizes(plan, by_size);
  PossibleMixtures possible{sizes.least(), sizes.most(), sizes.most(), {}};
  if (!recipe.budget) return possible;
  possible.budget = sized_budget(recipe, model, possible.least.bytes);
  sizes.check(possible.budget);
  if (possible.budget.kl) return possible;
  const ChoiceLosses by_bits = losses_by(
      plan, [](double weights, double bytes) { return weights * std::exp2(-2 * 8 * bytes / weights); });
  possible.stand_in = BudgetChoice(plan, by_bits).pick(possible.budget);
  return possible;
}

std::string describe_unmeasured(const Unmeasured& unmeasured, const PossibleMixtures* possible) {
  const Recipe& recipe = unmeasured.recipe;
  const ChoicePlan& plan = unmeasured.plan;
  std::string text = fmt::format(
      "candidates {}\nmeasure    {} groups{} under {}, {} variants in all, on {} samples held out of {} "
      "(loss "
      "{}); into {}\n",
      fmt::join(names_of(recipe), "; "), plan.groups.size(),
      recipe.sensitivity.linears ? " and each of their linears" : "",
      possible ? "them" : "one of them each, as rules say", variants_of(recipe, plan),
      recipe.sensitivity.held_out, recipe.calibration.samples, name_of(recipe.sensitivity.loss),
      unmeasured.file.string());
  if (possible) {
    text += fmt::format("possible   {:.3f} to {:.3f} bits/weight, {} to {}\n",
                        possible->least.bits_per_weight, possible->most.bits_per_weight,
                        human_bytes(possible->least.bytes), human_bytes(possible->most.bytes));
    if (recipe.budget) text += describe_room(recipe, plan, *possible);
  }
  for (const std::string& warning : unmeasured.warnings) text += "warning    " + warning + "\n";
  return text;
}

json unmeasured_json(const Unmeasured& unmeasured, const PossibleMixtures* possible) {
  const Recipe& recipe = unmeasured.recipe;
  json result = {{"schema", 1},
                 {"candidates", names_of(recipe)},
                 {"groups", unmeasured.plan.groups.size()},
                 {"variants", variants_of(recipe, unmeasured.plan)},
                 {"sensitivity", unmeasured.file.string()},
                 {"possible", nullptr},
                 {"budget", nullptr},
                 {"bytes", nullptr},
                 {"stand_in", nullptr},
                 {"warnings", unmeasured.warnings}};
  if (!possible) return result;
  result["possible"] = {{"least", size_json(possible->least)}, {"most", size_json(possible->most)}};
  if (!recipe.budget) return result;
  result["budget"] = recipe.to_json().at("budget");
  if (const auto bytes = bytes_of(possible->budget, unmeasured.plan)) result["bytes"] = *bytes;
  result["stand_in"] = size_json(possible->stand_in);
  return result;
}

json measuring_json(const MeasurementPlan& measuring) {
  return {{"memory", bytes_json(measuring.memory.peak)}, {"work", estimate_json(measuring.work)}};
}

}  // namespace lathe
