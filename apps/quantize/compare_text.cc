// What `quantize compare` says: for machines and for people.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "apps/quantize/compare.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

using nlohmann::json;

constexpr size_t kDifferingLinears = 5;
constexpr const char *kOutputError = "output_error", *kImportanceWeighted = "importance_weighted_error",
                     *kWeightError = "weight_error";
constexpr const char* kMeasures[] = {kOutputError, kImportanceWeighted, kWeightError};

/// "A", "B", ...; beyond Z by number.
std::string letter(size_t index) {
  return index < 26 ? std::string(1, static_cast<char>('A' + index)) : fmt::format("#{}", index + 1);
}

/// A linear's error in each artefact; NaN where it is not known.
struct LinearErrors {
  std::string name, role;
  std::vector<double> errors;

  double spread() const {
    double low = std::numeric_limits<double>::infinity(), high = 0;
    for (const double error : errors) {
      if (!std::isfinite(error)) continue;
      low = std::min(low, error);
      high = std::max(high, error);
    }
    return low > 0 && std::isfinite(low) ? high / low : 1;
  }
};

struct LayerErrors {
  std::string measure;  // empty: no report knows one
  std::vector<LinearErrors> linears;
};

const json* rows_of(const ComparedArtefact& artefact) {
  const auto rows = artefact.report.is_object() ? artefact.report.find("linears") : artefact.report.end();
  return artefact.report.is_object() && rows != artefact.report.end() && rows->is_array() ? &*rows : nullptr;
}

double number_of(const json& row, const char* key) {
  const auto value = row.is_object() ? row.find(key) : row.end();
  return row.is_object() && value != row.end() && value->is_number() ? value->get<double>() : std::nan("");
}

std::string word_of(const json& row, const char* key) {
  const auto value = row.is_object() ? row.find(key) : row.end();
  return row.is_object() && value != row.end() && value->is_string() ? value->get<std::string>() : "";
}

/// The measure that all reports have, the nearest to what a layer puts out; and every linear's.
LayerErrors layer_errors(const std::vector<ComparedArtefact>& artefacts) {
  LayerErrors found;
  for (const char* measure : kMeasures) {
    bool some = false, all = true;
    for (const ComparedArtefact& artefact : artefacts) {
      const json* const rows = rows_of(artefact);
      if (rows == nullptr) continue;
      some = some || !rows->empty();
      for (const json& row : *rows) all = all && std::isfinite(number_of(row, measure));
    }
    if (!some || !all) continue;
    found.measure = measure;
    break;
  }
  if (found.measure.empty()) return found;
  std::map<std::string, size_t> places;
  for (size_t i = 0; i < artefacts.size(); ++i) {
    const json* const rows = rows_of(artefacts[i]);
    if (rows == nullptr) continue;
    for (const json& row : *rows) {
      const std::string name = word_of(row, "name");
      const auto [place, is_new] = places.emplace(name, found.linears.size());
      if (is_new)
        found.linears.push_back(
            {name, word_of(row, "role"), std::vector<double>(artefacts.size(), std::nan(""))});
      found.linears[place->second].errors[i] = number_of(row, found.measure.c_str());
    }
  }
  return found;
}

json section_of(const json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() ? *found : json();
}

/// Were the layers' errors measured on the same tokens, as far as the reports say? Those of weights are of no
/// tokens.
bool same_calibration(const std::vector<ComparedArtefact>& artefacts, const std::string& measure) {
  std::set<std::string> sources;
  for (const ComparedArtefact& artefact : artefacts) {
    if (rows_of(artefact) == nullptr || artefact.errors_measured) continue;
    std::string source = word_of(section_of(artefact.report, "calibration"), "ids_hash");
    // Importances may come from a file in place of the run's text.
    if (measure == kImportanceWeighted)
      source += " " + word_of(section_of(section_of(artefact.report, "recipe"), "output"), "imatrix");
    sources.insert(source);
  }
  return measure == kWeightError || sources.size() < 2;
}

/// Artefacts whose reports don't have a measure of every linear.
std::vector<std::string> without(const std::vector<ComparedArtefact>& artefacts, const char* measure) {
  std::vector<std::string> letters;
  for (size_t i = 0; i < artefacts.size(); ++i) {
    const json* const rows = rows_of(artefacts[i]);
    if (rows == nullptr || artefacts[i].errors_measured) continue;
    if (std::ranges::any_of(*rows, [&](const json& row) { return !std::isfinite(number_of(row, measure)); }))
      letters.push_back(letter(i));
  }
  return letters;
}

/// Where a measure comes from, and why it is no nearer one to what a layer puts out.
std::string origin_of(const std::vector<ComparedArtefact>& artefacts, const std::string& measure) {
  std::string text = "from the reports";
  if (!same_calibration(artefacts, measure)) text += ", which measured it on different calibration data";
  std::vector<std::string> measured;  // now, not by the run
  for (size_t i = 0; i < artefacts.size(); ++i)
    if (artefacts[i].errors_measured) measured.push_back(letter(i));
  if (!measured.empty()) return text + fmt::format("; of {} from the weights", join_words(measured));
  const std::vector<std::string> missing = without(artefacts, kOutputError);
  if (measure != kOutputError && !missing.empty() && missing.size() < artefacts.size())
    text += fmt::format("; there is no output error of {}", join_words(missing));
  return text;
}

json or_null(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }

json opinion_json(const TokenOpinion& opinion) {
  return {{"name", opinion.name},
          {"token", opinion.token},
          {"probability", opinion.probability},
          {"next_probability", opinion.next_probability},
          {"kl", opinion.kl ? json(*opinion.kl) : json(nullptr)}};
}

json artefact_json(const ComparedArtefact& artefact) {
  json row = {{"name", artefact.name},
              {"same_as", artefact.same_as ? json(*artefact.same_as) : json(nullptr)},
              {"trouble", artefact.trouble.empty() ? json(nullptr) : json(artefact.trouble)}};
  for (const auto& [name, value] : figures_of(artefact)) row[name] = or_null(value);
  return row;
}

/// A token or a stretch of text on one line, in quotes.
std::string quoted(const std::string& text) {
  return json(text).dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string cell(double value, const std::string& figure) {
  return std::isnan(value) ? "-" : shown_figure(figure, value);
}

std::string figure_lines(const Comparison& comparison) {
  constexpr std::pair<const char*, const char*> kLines[] = {
      {"size", "size"},   {"bits", "bits/parameter"},  {"ppl", "perplexity"},  {"ppl_increase", "increase"},
      {"kl", "KL, mean"}, {"kl_median", "KL, median"}, {"kl_p99", "KL, 99 %"}, {"same_top", "same top"}};
  std::string text = fmt::format("{:<16}", "");
  for (size_t i = 0; i < comparison.artefacts.size(); ++i) text += fmt::format(" {:>12}", letter(i));
  text += comparison.reference ? fmt::format(" {:>12}\n", "reference") : "\n";
  for (const auto& [figure, label] : kLines) {
    std::string line = fmt::format("{:<16}", label);
    bool known = false;
    for (const ComparedArtefact& artefact : comparison.artefacts) {
      const Figures figures = figures_of(artefact);
      const auto value = figures.find(figure);
      known = known || value != figures.end();
      line += fmt::format(" {:>12}", value == figures.end() ? "-" : shown_figure(figure, value->second));
    }
    if (figure == std::string_view("ppl") && comparison.reference_perplexity)
      line += fmt::format(" {:>12}", shown_figure("ppl", *comparison.reference_perplexity));
    if (known) text += line + "\n";
  }
  return text;
}

std::string layer_lines(const std::vector<ComparedArtefact>& artefacts) {
  const LayerErrors layers = layer_errors(artefacts);
  if (layers.measure.empty()) return "";
  std::vector<const LinearErrors*> sorted;
  for (const LinearErrors& linear : layers.linears)
    if (linear.spread() > 1) sorted.push_back(&linear);
  std::ranges::stable_sort(sorted, std::greater<>{}, &LinearErrors::spread);
  std::string name = layers.measure;
  std::ranges::replace(name, '_', ' ');
  if (layers.measure == kImportanceWeighted) name = "importance-weighted error";
  std::string text = fmt::format("\n{} by role ({}){}\n", name, origin_of(artefacts, layers.measure),
                                 sorted.empty() ? "" : ", and the linears in which they differ most");
  const auto line = [&](const std::string& label, const std::vector<double>& values) {
    text += fmt::format("  {:<44}", label);
    for (const double value : values) text += fmt::format(" {:>10}", cell(value, ""));
    text += "\n";
  };
  text += fmt::format("  {:<44}", "");
  for (size_t i = 0; i < artefacts.size(); ++i) text += fmt::format(" {:>10}", letter(i));
  text += "\n";
  std::vector<std::string> roles;
  for (const LinearErrors& linear : layers.linears)
    if (std::ranges::find(roles, linear.role) == roles.end()) roles.push_back(linear.role);
  for (const std::string& role : roles) {
    std::vector<double> means;
    for (size_t i = 0; i < artefacts.size(); ++i) {
      double sum = 0;
      int count = 0;
      for (const LinearErrors& linear : layers.linears) {
        if (linear.role != role || std::isnan(linear.errors[i])) continue;
        sum += linear.errors[i];
        ++count;
      }
      means.push_back(count > 0 ? sum / count : std::nan(""));
    }
    line(role, means);
  }
  for (size_t i = 0; i < std::min(kDifferingLinears, sorted.size()); ++i)
    line(sorted[i]->name, sorted[i]->errors);
  return text;
}

std::string example_lines(const Comparison& comparison) {
  if (comparison.positions == 0) return "";
  std::string text = fmt::format(
      "\nnot all name the same token at {} of {} positions ({:.2f} %)\n", comparison.disagreements,
      comparison.positions,
      100.0 * static_cast<double>(comparison.disagreements) / static_cast<double>(comparison.positions));
  for (const Disagreement& example : comparison.examples) {
    text += fmt::format("  row {}, token {}: {} then {}\n", example.row, example.position,
                        quoted(example.context), quoted(example.next));
    for (const TokenOpinion& opinion : example.opinions) {
      text += fmt::format("    {:<10} {:<14} {:>6.2f} %, and {:.2f} % what follows{}\n",
                          opinion.artefact ? letter(*opinion.artefact) : opinion.name, quoted(opinion.token),
                          100 * opinion.probability, 100 * opinion.next_probability,
                          opinion.kl ? fmt::format("; KL {:.3f}", *opinion.kl) : "");
    }
  }
  return text;
}

}  // namespace

json comparison_json(const Comparison& comparison) {
  json out = {{"schema", 1},
              {"text", comparison.text},
              {"ctx", comparison.ctx},
              {"tokens", comparison.tokens},
              {"reference", comparison.reference ? json(*comparison.reference) : json(nullptr)},
              {"reference_perplexity",
               comparison.reference_perplexity ? json(*comparison.reference_perplexity) : json(nullptr)},
              {"artefacts", json::array()},
              {"positions", comparison.positions},
              {"disagreements", comparison.disagreements},
              {"examples", json::array()},
              {"checks", json::array()}};
  for (const ComparedArtefact& artefact : comparison.artefacts)
    out["artefacts"].push_back(artefact_json(artefact));
  const LayerErrors layers = layer_errors(comparison.artefacts);
  out["linears"] = {{"measure", layers.measure.empty() ? json(nullptr) : json(layers.measure)},
                    {"same_calibration", same_calibration(comparison.artefacts, layers.measure)},
                    {"rows", json::array()}};
  for (const LinearErrors& linear : layers.linears) {
    json errors = json::array();
    for (const double error : linear.errors) errors.push_back(or_null(error));
    out["linears"]["rows"].push_back({{"name", linear.name}, {"role", linear.role}, {"errors", errors}});
  }
  for (const Disagreement& example : comparison.examples) {
    json opinions = json::array();
    for (const TokenOpinion& opinion : example.opinions) opinions.push_back(opinion_json(opinion));
    out["examples"].push_back({{"row", example.row},
                               {"position", example.position},
                               {"context", example.context},
                               {"next", example.next},
                               {"opinions", opinions}});
  }
  for (const CompareCheck& check : comparison.checks)
    out["checks"].push_back({{"artefact", check.artefact},
                             {"condition", check.condition},
                             {"value", check.value ? or_null(*check.value) : json(nullptr)},
                             {"failure", check.failure.empty() ? json(nullptr) : json(check.failure)}});
  return out;
}

std::string comparison_text(const Comparison& comparison) {
  std::string text;
  for (size_t i = 0; i < comparison.artefacts.size(); ++i)
    text += fmt::format("{}  {}\n", letter(i), comparison.artefacts[i].name);
  for (size_t i = 0; i < comparison.artefacts.size(); ++i)
    if (const auto& same = comparison.artefacts[i].same_as)
      text += fmt::format("{} and {} are the same artefact, by their {}\n", letter(*same), letter(i),
                          comparison.artefacts[i].same_by);
  if (comparison.reference) text += fmt::format("against {}, ", *comparison.reference);
  text +=
      fmt::format("on {} tokens of {}, {} at a time\n\n", comparison.tokens, comparison.text, comparison.ctx);
  text += figure_lines(comparison) + layer_lines(comparison.artefacts) + example_lines(comparison);
  const auto failed =
      std::ranges::count_if(comparison.checks, [](const auto& check) { return !check.failure.empty(); });
  if (failed > 0) text += "\n";
  for (const CompareCheck& check : comparison.checks)
    if (!check.failure.empty())
      text += fmt::format("failed  {}: {}: {}\n", check.artefact, check.condition, check.failure);
  return text;
}

}  // namespace lathe
