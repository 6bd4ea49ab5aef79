#include "apps/quantize/mixed/sensitivity_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "apps/quantize/reporting.h"
#include "lib/base/partial.h"
#include "lib/base/process_memory.h"
#include "lib/base/scratch_file.h"
#include "lib/model/compute_dtype.h"
#include "lib/report/sensitivity_text.h"
#include "lib/tensor/device.h"
#include "lib/tensor/device_memory.h"

namespace lathe {
namespace {

using nlohmann::json;

constexpr size_t kNamedGroups = 5;

/// "rank       all   output_error 0.981  fisher -  (24 pairs)"
std::string rank_line(const std::string& who, const json& found, const json& pairs) {
  std::string text = fmt::format("rank       {:<28}", who);
  for (const auto& [measure, rho] : found.items())
    text += fmt::format("  {} {}", measure, rho.is_null() ? "-" : fmt::format("{:.3f}", rho.get<double>()));
  return text + fmt::format("  ({} pairs)\n", pairs.get<size_t>());
}

/// Every group of a candidate with its KL, or, where not all were measured, with the estimate.
struct CandidateLosses {
  bool measured = true;
  double sum = 0;
  std::vector<std::pair<double, std::string>> groups;  // the largest first
};

CandidateLosses losses_of(const SensitivityTable& table, size_t candidate) {
  CandidateLosses result;
  std::vector<std::pair<const GroupLoss*, std::string>> rows;
  for (const auto& group : table.groups) {
    const auto place = std::ranges::find(group.candidates, candidate);
    if (place == group.candidates.end()) continue;
    rows.emplace_back(&group.losses[static_cast<size_t>(place - group.candidates.begin())], group.name);
    result.measured = result.measured && rows.back().first->kl.has_value();
  }
  for (const auto& [loss, name] : rows) {
    const double value = result.measured || !loss->fisher ? loss->kl.value_or(0) : *loss->fisher;
    result.groups.emplace_back(value, name);
    result.sum += value;
  }
  std::ranges::sort(result.groups, std::greater());
  return result;
}

/// "q_proj/k_proj/v_proj", "expert down_proj"; of a table its tensor.
std::string role_of(const ChoiceGroup& group, const ModelGraph& graph) {
  if (group.block < 0) return group.table;
  const std::vector<Linear>& linears = graph.part(static_cast<size_t>(group.block)).linears;
  std::vector<std::string_view> roles;
  for (const size_t i : group.linears)
    if (std::ranges::find(roles, name_of(linears[i].role)) == roles.end())
      roles.push_back(name_of(linears[i].role));
  return fmt::format("{}{}", linears[group.linears.front()].input.expert ? "expert " : "",
                     fmt::join(roles, "/"));
}

json loss_json(const GroupLoss& loss, size_t candidate) {
  return {{"candidate", candidate},
          {"kl", or_null(loss.kl)},
          {"fisher", or_null(loss.fisher)},
          {"output_error", or_null(loss.output_relative_error)},
          {"weight_error", loss.weight_relative_mse}};
}

/// Linears of a group that were measured by themselves, as the group's members.
json linears_json(const SensitivityTable::Group& group, const GroupLoss& loss) {
  json rows = json::array();
  for (size_t i = 0; i < loss.linears.size(); ++i) {
    const LinearLoss& linear = loss.linears[i];
    if (!linear.kl) continue;
    rows.push_back({{"name", group.members[i]},
                    {"kl", *linear.kl},
                    {"fisher", or_null(linear.fisher)},
                    {"output_error", linear.output_relative_error}});
  }
  return rows;
}

}  // namespace

std::string describe_sensitivity(const SensitivityTable& table, const std::vector<std::string>& names) {
  const json found = rank_correlations(table);
  const json& pairs = found.at("pairs");
  std::string text = "rank       Spearman's correlation of cheap measures with the measured KL\n";
  text += rank_line("all", found.at("all"), pairs.at("all"));
  for (size_t c = 0; c < names.size(); ++c)
    text += rank_line(names[c], found.at("by_candidate")[c], pairs.at("by_candidate")[c]);
  if (found.contains("linears"))
    text += rank_line("each linear alone", found.at("linears"), pairs.at("linears"));
  for (size_t c = 0; c < names.size(); ++c) {
    const CandidateLosses losses = losses_of(table, c);
    text += fmt::format("{}: {} {:.5g} in sum; most:", names[c], losses.measured ? "KL" : "estimated KL",
                        losses.sum);
    for (size_t i = 0; i < std::min(kNamedGroups, losses.groups.size()); ++i)
      text += fmt::format("{} {} {:.4g}", i > 0 ? "," : "", losses.groups[i].second, losses.groups[i].first);
    text += "\n";
  }
  return text;
}

json sensitivity_section(const SensitivityTable& table, const Recipe& recipe, const ModelGraph& graph,
                         const ChoicePlan& plan) {
  json section = {{"loss", name_of(recipe.sensitivity.loss)},
                  {"held_out_tokens", table.data.value("held_out_tokens", json())},
                  {"checked_tokens", table.data.value("checked_tokens", json())},
                  {"candidates", names_of(recipe)},
                  {"rank_correlation", rank_correlations(table)},
                  {"groups", json::array()}};
  for (size_t g = 0; g < table.groups.size(); ++g) {
    const SensitivityTable::Group& group = table.groups[g];
    const ChoiceGroup& planned = plan.groups[g];
    json losses = json::array();
    for (size_t k = 0; k < group.losses.size(); ++k) {
      losses.push_back(loss_json(group.losses[k], group.candidates[k]));
      if (json linears = linears_json(group, group.losses[k]); !linears.empty())
        losses.back()["linears"] = std::move(linears);
    }
    section["groups"].push_back({{"name", group.name},
                                 {"block", planned.block < 0 ? json() : json(planned.block)},
                                 {"role", role_of(planned, graph)},
                                 {"losses", std::move(losses)}});
  }
  return section;
}

void write_sensitivity_report(const std::filesystem::path& folder, const RunRequest& request,
                              const Recipe& recipe, const ModelFolder& model, const Measured& measured,
                              json section, const std::vector<std::string>& warnings, double seconds) {
  const c10::Device device = resolve_device(request.device);
  Report report;
  report.model = report_model(recipe, model);
  report.environment = report_environment(
      device, resolve_compute_dtype(request.compute_dtype, device, model.graph.config.dtype));
  report.memory = report_memory(recipe, measured.memory);
  report.memory.peak_vram = peak_device_memory(device);
  report.memory.peak_disk = peak_scratch_bytes();
  report.peak_rss = peak_rss_bytes();
  report.calibration = report_calibration(measured.set);
  report.recipe = recipe.to_json();
  report.sensitivity = std::move(section);
  report.stages.emplace_back("measure sensitivity", seconds);
  report.warnings = warnings;
  replace_file(folder / "sensitivity.md", sensitivity_document(report));
  replace_file(folder / "sensitivity.html", to_html(report, "", {}));
}

}  // namespace lathe
