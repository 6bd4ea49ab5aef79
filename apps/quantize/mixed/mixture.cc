#include "apps/quantize/mixed/mixture.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "apps/quantize/mixed/measure.h"
#include "apps/quantize/mixed/mixture_memory.h"
#include "apps/quantize/mixed/sensitivity_file.h"
#include "apps/quantize/mixed/vram_budget.h"
#include "apps/quantize/request_checks.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/strings.h"
#include "recipes/budget/choice.h"
#include "recipes/budget/recipe_yaml.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kFileName = "sensitivity.json";
constexpr size_t kPrintedPoints = 12;
constexpr size_t kStoredPoints = 400;

std::vector<std::string> names_of(const Recipe& recipe) {
  std::vector<std::string> names;
  for (const Candidate& candidate : recipe.candidates) names.push_back(candidate.describe());
  return names;
}

std::string row(const std::string& first, const Mixture& mixture, const std::string& note) {
  return fmt::format("{:<10} {:>11.3f} {:>12} {:>14.5g}{}{}\n", first, mixture.bits_per_weight,
                     human_bytes(mixture.bytes), mixture.kl, note.empty() ? "" : "  ", note);
}

json size_json(const Mixture& mixture) {
  return {{"bytes", mixture.bytes}, {"bits_per_weight", mixture.bits_per_weight}};
}

json mixture_json(const Mixture& mixture) {
  json row = size_json(mixture);
  row["kl"] = mixture.kl;
  return row;
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
                            size_t point) {
  std::string text = fmt::format("budget     {} (consumers of all candidates: {})\n",
                                 recipe.budget->describe(), join_words(plan.consumers));
  text += fmt::format("{:<10} {:>11} {:>12} {:>14}\n", "frontier", "bits/weight", "size", "predicted KL");
  for (const size_t p : choice.some(kPrintedPoints, point))
    text += row("", choice.at(p), p == point ? "chosen" : "");
  for (size_t c = 0; c < recipe.candidates.size(); ++c) {
    if (const auto uniform = choice.uniform(c))
      text += row("uniform", *uniform, recipe.candidates[c].describe());
  }
  return text + describe_shares(recipe, plan, choice.at(point));
}

std::string choice_json(const Recipe& recipe, const ChoicePlan& plan, const BudgetChoice& choice,
                        size_t point) {
  const Mixture chosen = choice.at(point);
  json result = {{"schema", 1},
                 {"budget", recipe.to_json().at("budget")},
                 {"chosen", mixture_json(chosen)},
                 {"candidates", names_of(recipe)},
                 {"frontier", json::array()},
                 {"uniform", json::array()},
                 {"groups", json::array()}};
  for (const size_t p : choice.some(kStoredPoints, point))
    result["frontier"].push_back(mixture_json(choice.at(p)));
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
         {"bytes", group.bytes[chosen.choice[g]]}});
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

/// What could be chosen, before anything is measured.
void print_possible(const Recipe& recipe, const ModelFolder& model, const ChoicePlan& plan,
                    const fs::path& file, bool as_json) {
  ChoiceLosses none;
  size_t trials = 0;
  for (const ChoiceGroup& group : plan.groups) {
    auto& losses = none.emplace_back();
    for (const uint64_t bytes : group.bytes)
      losses.push_back(-static_cast<double>(bytes));  // the largest loses least
    trials += losses.size();
  }
  const BudgetChoice sizes(plan, none);
  if (!recipe.budget->kl) sizes.pick(sized_budget(recipe, model, sizes.at(0).bytes));
  const Mixture least = sizes.at(0), most = sizes.at(sizes.size() - 1);
  if (as_json) {
    const json possible = {{"schema", 1},
                           {"candidates", names_of(recipe)},
                           {"groups", plan.groups.size()},
                           {"variants", trials},
                           {"sensitivity", file.string()},
                           {"possible", {{"least", size_json(least)}, {"most", size_json(most)}}}};
    return fmt::print("{}\n", possible.dump(2, ' ', false, json::error_handler_t::replace));
  }
  fmt::print("candidates {}\n", join_words(names_of(recipe)));
  fmt::print("measure    {} groups under them, {} variants in all, on {} samples held out of {}; into {}\n",
             plan.groups.size(), trials, recipe.sensitivity.held_out, recipe.calibration.samples,
             file.string());
  fmt::print("possible   {:.3f} to {:.3f} bits/weight, {} to {}\n", least.bits_per_weight,
             most.bits_per_weight, human_bytes(least.bytes), human_bytes(most.bytes));
}

}  // namespace

fs::path sensitivity_place(const Recipe& recipe) {
  if (!recipe.sensitivity.file.empty()) return recipe.sensitivity.file;
  fs::path place = output_place(recipe.output.path);
  place += ".sensitivity.json";
  return place;
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) user_error("{}: can't be created: {}", folder.string(), error.message());
}

void ChosenMixture::write(const ArtifactWriters& writers) const {
  for (const auto& writer : writers) {
    write_file(writer->folder() / "chosen.yaml", yaml);
    write_file(writer->folder() / "budget.json", json);
  }
}

std::optional<ChosenMixture> choose_mixture(const RunRequest& request, const Recipe& recipe) {
  if (!recipe.budget) {
    user_error(
        "{}: nothing chooses among `candidates`: give `budget`, such as {{bits_per_weight: 4.25}}, or "
        "measure "
        "them alone with `quantize sensitivity`",
        recipe.file);
  }
  const ModelFolder model = open_source(recipe);
  check_texts_exist(recipe);
  check_output_apart(recipe);
  const ChoicePlan plan = plan_choices(recipe, model.graph, model.checkpoint->tensors());
  const fs::path file = sensitivity_place(recipe);
  if (!fs::exists(file)) {
    if (request.dry_run) {
      print_possible(recipe, model, plan, file, request.json);
      return std::nullopt;
    }
    check_mixture_memory(request, recipe, model, plan);
    make_folder(output_place(file).parent_path());
    Progress progress(request.quiet);
    write_sensitivity(file, measure_candidates(request, recipe, model, plan, progress));
  }
  const BudgetChoice choice(plan, losses_for(read_sensitivity(file), file, recipe, model, plan));
  const size_t point = choice.pick(sized_budget(recipe, model, choice.at(0).bytes));
  const Mixture mixture = choice.at(point);
  ChosenMixture chosen;
  chosen.recipe = chosen_recipe(recipe, model.graph, plan, mixture.choice);
  chosen.yaml = recipe_yaml(chosen.recipe, heading_of(recipe, mixture, plan));
  chosen.json = choice_json(recipe, plan, choice, point);
  if (!request.quiet && !request.json) fmt::print("{}", describe_choice(recipe, plan, choice, point));
  return chosen;
}

void run_sensitivity(const SensitivityRequest& request) {
  const Recipe recipe = effective_recipe(request.run);
  if (recipe.candidates.empty())
    user_error("{}: no `candidates` to measure; list schemes there, as in recipes/sensitivity.yaml",
               recipe.file);
  const ModelFolder model = open_source(recipe);
  check_texts_exist(recipe);
  check_output_apart(recipe);
  const ChoicePlan plan = plan_choices(recipe, model.graph, model.checkpoint->tensors());
  const fs::path folder = output_place(recipe.output.path), file = folder / kFileName;
  if (fs::exists(file) && !request.run.overwrite)
    user_error("{}: exists already; give --overwrite to measure anew", file.string());
  make_folder(folder);
  Progress progress(request.run.quiet);
  const SensitivityTable table = measure_candidates(request.run, recipe, model, plan, progress);
  write_sensitivity(file, table);
  if (!request.run.quiet)
    fmt::print("{}written to {}\n", describe_sensitivity(table, names_of(recipe)),
               (recipe.output.path / kFileName).string());
}

}  // namespace lathe
