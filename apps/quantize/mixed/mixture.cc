#include "apps/quantize/mixed/mixture.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>

#include "apps/quantize/mixed/measure.h"
#include "apps/quantize/mixed/mixture_memory.h"
#include "apps/quantize/mixed/sensitivity_file.h"
#include "apps/quantize/mixed/sensitivity_report.h"
#include "apps/quantize/mixed/unmeasured.h"
#include "apps/quantize/mixed/vram_budget.h"
#include "apps/quantize/request_checks.h"
#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/new_folder.h"
#include "lib/base/strings.h"
#include "recipes/budget/choice.h"
#include "recipes/budget/recipe_yaml.h"
#include "recipes/budget/ruled_groups.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kFileName = "sensitivity.json";
constexpr size_t kPrintedPoints = 12;
constexpr size_t kStoredPoints = 400;

std::string row(const std::string& first, const Mixture& mixture, const std::string& note) {
  return fmt::format("{:<10} {:>11.3f} {:>12} {:>14.5g}{}{}\n", first, mixture.bits_per_weight,
                     human_bytes(mixture.bytes), mixture.kl, note.empty() ? "" : "  ", note);
}

json mixture_json(const Mixture& mixture) {
  return {{"bytes", mixture.bytes}, {"bits_per_weight", mixture.bits_per_weight}, {"kl", mixture.kl}};
}

/// How many groups, and what share of the weights, take each candidate.
std::string describe_shares(const Recipe& recipe, const ChoicePlan& plan, const Mixture& mixture) {
  std::vector<std::pair<size_t, double>> shares(recipe.candidates.size());
  for (size_t g = 0; g < plan.groups.size(); ++g) {
    auto& [count, weights] = shares[plan.groups[g].candidates[mixture.choice[g]]];
    ++count;
    weights += plan.groups[g].weights;
  }
  std::string text;
  for (size_t c = 0; c < shares.size(); ++c) {
    if (shares[c].first == 0) continue;
    text += fmt::format("takes      {}: {} of {} groups, {:.1f} % of the weights\n",
                        recipe.candidates[c].describe(), shares[c].first, plan.groups.size(),
                        100 * shares[c].second / plan.weights());
  }
  return text;
}

std::string describe_choice(const Recipe& recipe, const ChoicePlan& plan, const BudgetChoice& choice,
                            const Mixture& chosen) {
  std::string text = fmt::format("budget     {} (consumers of all candidates: {})\n",
                                 recipe.budget->describe(), join_words(plan.consumers));
  text += fmt::format("{:<10} {:>11} {:>12} {:>14}\n", "frontier", "bits/weight", "size", "predicted KL");
  for (const Mixture& mixture : choice.some(kPrintedPoints, chosen))
    text += row("", mixture, mixture.bytes == chosen.bytes ? "chosen" : "");
  for (size_t c = 0; c < recipe.candidates.size(); ++c) {
    if (const auto uniform = choice.uniform(c))
      text += row("uniform", *uniform, recipe.candidates[c].describe());
  }
  return text + describe_shares(recipe, plan, chosen);
}

/// In the order of the recipe's candidates; null where a group can't take one.
json losses_json(const Recipe& recipe, const ChoiceGroup& group, const std::vector<double>& losses) {
  json row(recipe.candidates.size(), nullptr);
  for (size_t k = 0; k < group.candidates.size(); ++k) row[group.candidates[k]] = losses[k];
  return row;
}

std::string choice_json(const Recipe& recipe, const ChoicePlan& plan, const SensitivityTable& table,
                        const ChoiceLosses& losses, const BudgetChoice& choice, const Mixture& chosen) {
  const json found = rank_correlations(table);
  json result = {{"schema", 1},
                 {"budget", recipe.to_json().at("budget")},
                 {"chosen", mixture_json(chosen)},
                 {"candidates", names_of(recipe)},
                 {"frontier", json::array()},
                 {"uniform", json::array()},
                 {"groups", json::array()},
                 {"measured",
                  {{"loss", name_of(recipe.sensitivity.loss)},
                   {"held_out_tokens", table.data.value("held_out_tokens", json())},
                   {"rank_correlation", found.at("all")},
                   {"pairs", found.at("pairs").at("all")}}}};
  for (const Mixture& mixture : choice.some(kStoredPoints, chosen))
    result["frontier"].push_back(mixture_json(mixture));
  for (size_t c = 0; c < recipe.candidates.size(); ++c) {
    const auto uniform = choice.uniform(c);
    if (!uniform) continue;
    result["uniform"].push_back(mixture_json(*uniform));
    result["uniform"].back()["candidate"] = recipe.candidates[c].describe();
  }
  for (size_t g = 0; g < plan.groups.size(); ++g) {
    const ChoiceGroup& group = plan.groups[g];
    result["groups"].push_back(
        {{"name", group.name},
         {"candidate", recipe.candidates[group.candidates[chosen.choice[g]]].describe()},
         {"bytes", group.bytes[chosen.choice[g]]},
         {"losses", losses_json(recipe, group, losses[g])}});
  }
  return result.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

std::string heading_of(const Recipe& recipe, const Mixture& mixture, const ChoicePlan& plan) {
  return fmt::format(
      "Chosen under a budget of {}: {:.3f} bits/weight, {} bytes of tensors, a predicted KL of {:.4g} "
      "nats.\n{}\n"
      "A plain recipe: it runs as it is (with --output, or --overwrite), and may be changed.",
      recipe.budget->describe(), mixture.bits_per_weight, mixture.bytes, mixture.kl,
      describe_shares(recipe, plan, mixture));
}

/// A dry run of `quantize sensitivity`. UserError, when all else is said, where the limits leave no room to
/// measure.
void print_unmeasured(const RunRequest& request, const ModelFolder& model, const Unmeasured& unmeasured) {
  const ChoicePlan& plan = unmeasured.plan;
  std::optional<PossibleMixtures> possible;  // rules leave nothing to choose
  if (!plan.groups.front().bytes.empty()) possible = possible_mixtures(unmeasured.recipe, model, plan);
  json result = unmeasured_json(unmeasured, possible ? &*possible : nullptr);
  result["memory"] = result["work"] = nullptr;
  std::string text = describe_unmeasured(unmeasured, possible ? &*possible : nullptr);
  const auto print = [&] {
    if (request.json) text = result.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
    fmt::print("{}", text);
  };
  std::optional<MeasurementPlan> takes;
  try {
    takes = plan_measurement(request, unmeasured.recipe, model, plan);
  } catch (const MemoryRefused&) {
    print();
    throw;
  }
  result.update(measuring_json(*takes));
  text += describe_memory(takes->memory) + describe_estimate(takes->work);
  print();
}

/// What a dry run goes on with before anything is measured.
ChosenMixture stand_in(const RunRequest& request, const Recipe& recipe, ModelFolder model, ChoicePlan plan,
                       const fs::path& file) {
  const Unmeasured unmeasured{recipe, plan, file};
  const PossibleMixtures possible = possible_mixtures(recipe, model, plan);
  if (!request.json) fmt::print("{}", describe_unmeasured(unmeasured, &possible));
  ChosenMixture chosen;
  chosen.recipe = chosen_recipe(recipe, model.graph, plan, possible.stand_in.choice);
  chosen.json = unmeasured_json(unmeasured, &possible).dump();
  chosen.model = std::make_shared<const ModelFolder>(std::move(model));
  chosen.to_measure = [&request, recipe, plan = std::move(plan), opened = chosen.model](const RunText& text) {
    check_mixture_memory(request, recipe, *opened, plan, &text);
    return plan_measurement(request, recipe, *opened, plan, &text.calibration);
  };
  return chosen;
}

}  // namespace

fs::path sensitivity_place(const Recipe& recipe) {
  if (!recipe.sensitivity.file.empty()) return recipe.sensitivity.file;
  fs::path place = output_place(recipe.output.path);
  place += ".sensitivity.json";
  return place;
}

void ChosenMixture::write(const ArtifactWriters& writers) const {
  for (const auto& writer : writers) {
    write_file(writer->folder() / "chosen.yaml", yaml);
    write_file(writer->folder() / "budget.json", json);
  }
}

ChosenMixture choose_mixture(const RunRequest& request, const Recipe& recipe) {
  if (!recipe.budget) {
    user_error(
        "{}: nothing chooses among `candidates`: give `budget`, such as {{bits_per_weight: 4.25}}, or "
        "measure "
        "them alone with `quantize sensitivity`",
        recipe.file);
  }
  ModelFolder model = open_source(recipe);
  check_texts_exist(recipe);
  check_output_apart(recipe);
  ChoicePlan plan = plan_choices(recipe, model.graph, model.checkpoint->tensors());
  const fs::path file = sensitivity_place(recipe);
  ChosenMixture chosen;
  if (!fs::exists(file)) {
    if (request.dry_run) return stand_in(request, recipe, std::move(model), std::move(plan), file);
    check_mixture_memory(request, recipe, model, plan);
    const NewFolder folder(output_place(file).parent_path());
    Progress progress(request.quiet);
    const Stopwatch watch;
    write_sensitivity(file, measure_candidates(request, recipe, model, plan, progress).table);
    chosen.measuring_seconds = watch.seconds();
  }
  const SensitivityTable table = part_of(read_sensitivity(file), file, recipe, model, plan);
  if (const auto warning = measured_otherwise(table, file, recipe)) chosen.warnings.push_back(*warning);
  if (const auto warning = estimate_is_off(table, recipe)) chosen.warnings.push_back(*warning);
  const ChoiceLosses losses = losses_for(table, file, recipe);
  chosen.sensitivity = sensitivity_section(table, recipe, model.graph, plan);
  const BudgetChoice choice(plan, losses);
  const Mixture mixture = choice.pick(sized_budget(recipe, model, choice.least().bytes));
  chosen.recipe = chosen_recipe(recipe, model.graph, plan, mixture.choice);
  chosen.yaml = recipe_yaml(chosen.recipe, heading_of(recipe, mixture, plan));
  chosen.json = choice_json(recipe, plan, table, losses, choice, mixture);
  if ((!request.quiet || request.dry_run) && !request.json)
    fmt::print("{}", describe_choice(recipe, plan, choice, mixture));
  return chosen;
}

void run_sensitivity(const SensitivityRequest& request) {
  const Recipe asked = effective_recipe(request.run);
  check_measurable(asked);
  const ModelFolder model = open_source(asked);
  check_texts_exist(asked);
  check_output_apart(asked);
  const auto& tensors = model.checkpoint->tensors();
  auto [recipe, plan, warnings] = asked.candidates.empty()
                                      ? ruled_groups(asked, model.graph, tensors)
                                      : RuledGroups{asked, plan_choices(asked, model.graph, tensors), {}};
  warn_dequantised(model, warnings);
  const fs::path folder = output_place(recipe.output.path), file = folder / kFileName;
  if (fs::exists(folder / "manifest.json"))
    user_error(
        "{}: holds a finished artefact, whose manifest.json lists all of its files; choose another "
        "--output",
        recipe.output.path.string());
  std::string in_the_way;
  if (fs::exists(file) && !request.run.overwrite)
    in_the_way = fmt::format("{}: exists already; give --overwrite to measure anew", file.string());
  if (request.run.dry_run) {
    if (!in_the_way.empty()) warnings.push_back("the run would be refused: " + in_the_way);
    return print_unmeasured(request.run, model, {recipe, plan, file, warnings});
  }
  if (!in_the_way.empty()) user_error("{}", in_the_way);
  const NewFolder made(folder);
  Progress progress(request.run.quiet);
  for (const std::string& warning : warnings) progress.line("warning: " + warning);
  const Stopwatch watch;
  const Measured measured = measure_candidates(request.run, recipe, model, plan, progress);
  const SensitivityTable& table = measured.table;
  write_sensitivity(file, table);
  write_sensitivity_report(folder, request.run, asked, model, measured,
                           sensitivity_section(table, recipe, model.graph, plan), warnings, watch.seconds());
  if (!request.run.quiet)
    fmt::print("{}written to {}\n", describe_sensitivity(table, names_of(recipe)),
               (recipe.output.path / kFileName).string());
}

}  // namespace lathe
