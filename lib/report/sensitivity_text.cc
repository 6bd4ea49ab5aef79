#include "lib/report/sensitivity_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "lib/base/strings.h"
#include "lib/report/cells.h"

namespace lathe {
namespace {

using nlohmann::json;

std::string number_or_dash(const json& value) {
  return value.is_number() ? short_number(value.get<double>()) : "-";
}

/// Of linears' losses with the measured KL.
constexpr std::pair<const char*, const char*> kMeasures[] = {
    {"weight_relative_mse", "relative weight error"},
    {"output_relative_error", "relative output error"},
    {"output_error", "output error"},
    {"fisher", "Fisher's estimate"}};

bool by_estimate(const json& section) { return section.at("loss") == "fisher"; }

/// What a budget would sum up: of a table the measured KL, for there is no other.
double loss_of(const json& section, const json& loss) {
  const json& first = loss.at(by_estimate(section) ? "fisher" : "kl");
  const json& value = first.is_number() ? first : loss.at("kl");
  return value.is_number() ? value.get<double>() : 0;
}

double sum_of_losses(const json& section) {
  double sum = 0;
  for (const json& group : section.at("groups"))
    for (const json& loss : group.at("losses")) sum += loss_of(section, loss);
  return sum;
}

bool one_candidate_each(const json& section) {
  for (const json& group : section.at("groups"))
    if (group.at("losses").size() != 1) return false;
  return true;
}

std::string correlation_row(const std::string& who, const json& found, const json& pairs) {
  std::string text = fmt::format("| {} | {} |", cell(who), pairs.get<size_t>());
  for (const auto& [key, name] : kMeasures)
    text += fmt::format(" {} |", number_or_dash(found.value(key, json())));
  return text + "\n";
}

std::string correlation_table(const json& section) {
  const json& found = section.at("rank_correlation");
  std::string text = "| candidate | pairs |", rule = "| --- | --- |";
  for (const auto& [key, name] : kMeasures) {
    text += fmt::format(" {} |", name);
    rule += " --- |";
  }
  text += "\n" + rule + "\n";
  text += correlation_row("all", found.at("all"), found.at("pairs").at("all"));
  const json& candidates = section.at("candidates");
  for (size_t c = 0; candidates.size() > 1 && c < candidates.size(); ++c) {
    text += correlation_row(candidates[c].get<std::string>(), found.at("by_candidate")[c],
                            found.at("pairs").at("by_candidate")[c]);
  }
  if (found.contains("linears"))
    text += correlation_row("each linear alone", found.at("linears"), found.at("pairs").at("linears"));
  return text;
}

/// Linears that were measured by themselves; nothing where none was.
std::string linear_table(const json& section) {
  std::string text;
  for (const json& group : section.at("groups")) {
    for (const json& loss : group.at("losses")) {
      const json& candidate = section.at("candidates")[loss.at("candidate").get<size_t>()];
      for (const json& linear : loss.value("linears", json::array()))
        text += fmt::format("| {} | {} | {} | {} | {} |\n", cell(linear.at("name").get<std::string>()),
                            cell(candidate.get<std::string>()), number_or_dash(linear.at("kl")),
                            number_or_dash(linear.at("fisher")), number_or_dash(linear.at("output_error")));
    }
  }
  if (text.empty()) return text;
  return "\nEach linear quantised alone:\n\n| linear | candidate | KL | estimated KL | output error |\n"
         "| --- | --- | --- | --- | --- |\n" +
         text;
}

constexpr size_t kFirstRows = 20;  // the rest of a long table is folded

/// Groups with their candidates, those that lose most first.
std::string group_table(const json& section) {
  const std::string head =
      "| group | linears | candidate | KL | estimated KL | output error | weight error |\n"
      "| --- | --- | --- | --- | --- | --- | --- |\n";
  std::vector<std::pair<double, std::string>> rows;
  for (const json& group : section.at("groups")) {
    for (const json& loss : group.at("losses")) {
      const json& candidate = section.at("candidates")[loss.at("candidate").get<size_t>()];
      rows.emplace_back(
          loss_of(section, loss),
          fmt::format("| {} | {} | {} | {} | {} | {} | {} |\n", cell(group.at("name").get<std::string>()),
                      cell(group.at("role").get<std::string>()), cell(candidate.get<std::string>()),
                      number_or_dash(loss.at("kl")), number_or_dash(loss.at("fisher")),
                      number_or_dash(loss.at("output_error")), number_or_dash(loss.at("weight_error"))));
    }
  }
  std::ranges::stable_sort(rows, std::greater{}, &std::pair<double, std::string>::first);
  std::string text = "Those that lose most come first.\n\n" + head;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (i == kFirstRows)
      text += fmt::format("\n<details><summary>{} more</summary>\n\n{}", rows.size() - i, head);
    text += rows[i].second;
  }
  return rows.size() > kFirstRows ? text + "\n</details>\n" : text;
}

}  // namespace

std::string prediction_text(const Report& report) {
  const json& section = report.sensitivity;
  const double predicted =
      report.budget.is_null() ? sum_of_losses(section) : report.budget.at("chosen").at("kl").get<double>();
  std::string text = fmt::format("predicted KL {} ({} on {} tokens held out)", short_number(predicted),
                                 by_estimate(section) ? "estimated from gradients" : "measured",
                                 section.at("held_out_tokens").dump());
  if (report.evaluation)
    text += fmt::format(", {} on the evaluation's text", short_number(report.evaluation->kl_mean));
  const json& found = section.at("rank_correlation");
  std::vector<std::string> told;
  for (const auto& [measure, rho] : found.at("all").items())
    if (rho.is_number()) told.push_back(fmt::format("{} {:.2f}", measure, rho.get<double>()));
  if (!told.empty())
    text += fmt::format("; rank correlation with the measured KL: {} ({} pairs)", fmt::join(told, ", "),
                        found.at("pairs").at("all").get<size_t>());
  return text;
}

std::string sensitivity_markdown(const json& section) {
  std::string text =
      "What the model loses when one group of its linears is quantised and nothing else, nats: ";
  const std::string tokens = section.at("held_out_tokens").dump();
  if (by_estimate(section)) {
    text += fmt::format("estimated from gradients on {} tokens held out of calibration", tokens);
    if (section.at("checked_tokens").is_number())
      text += fmt::format("; of some groups KL was measured, too, on {} of them, to check the estimate",
                          section.at("checked_tokens").dump());
  } else {
    text += fmt::format("KL measured on {} tokens held out of calibration", tokens);
  }
  if (one_candidate_each(section))
    text += fmt::format(". The sum over groups, {}, predicts what all of them lose together",
                        short_number(sum_of_losses(section)));
  text += ".\n\n";
  if (section.at("rank_correlation").at("pairs").at("all").get<size_t>() > 1)
    text +=
        "Spearman's rank correlation of what costs less with the measured KL, over pairs of group and "
        "candidate:\n\n" +
        correlation_table(section) + "\n";
  return text + group_table(section) + linear_table(section);
}

std::string sensitivity_document(const Report& report) {
  std::string text = fmt::format(
      "# Sensitivity\n\n| | |\n| --- | --- |\n| model | {} ({}, {} blocks, {:.1f} M parameters) |\n"
      "| computed | {}, {}, {} |\n",
      cell(report.model.path), cell(report.model.family), report.model.blocks,
      static_cast<double>(report.model.parameters) / 1e6, report.environment.device,
      report.environment.compute_dtype, threads_text(report.environment.threads));
  if (report.calibration.rows > 0)
    text += fmt::format("| samples | {} of {} tokens, those held out among them |\n", report.calibration.rows,
                        report.calibration.seq_len);
  for (const auto& [stage, seconds] : report.stages)
    text += fmt::format("| {} | {:.1f} s |\n", stage, seconds);
  text += fmt::format("| peak memory | {}", human_bytes(report.peak_rss));
  if (report.memory.planned_ram > 0)
    text += fmt::format(", planned at most {}", human_bytes(report.memory.planned_ram));
  text += " |\n";
  if (const auto warnings = all_warnings(report); !warnings.empty()) {
    text += "\n## Warnings\n\n";
    for (const std::string& warning : warnings) text += fmt::format("- {}\n", cell(warning));
  }
  return text + "\n## What each group loses\n\n" + sensitivity_markdown(report.sensitivity);
}

}  // namespace lathe
