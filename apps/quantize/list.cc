#include "apps/quantize/list.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "algorithms/algorithm.h"
#include "algorithms/weight_range.h"
#include "calib/data/data_source.h"
#include "formats/layouts/layout.h"
#include "formats/targets/target.h"
#include "lib/base/strings.h"
#include "lib/model/graph.h"

namespace lathe {
namespace {

using nlohmann::ordered_json;

const char* type_of(const OptionValue& value) {
  static constexpr const char* kNames[] = {"truth", "integer", "number", "text"};
  return kNames[value.index()];
}

ordered_json json_of(const OptionValue& value) {
  return std::visit([](const auto& v) { return ordered_json(v); }, value);
}

ordered_json json_of(const OptionSpec& spec) {
  ordered_json row = {{"name", spec.name}, {"type", type_of(spec.default_value)}};
  row["default"] = json_of(spec.default_value);
  if (spec.minimum != spec.maximum) row["bounds"] = {spec.minimum, spec.maximum};
  if (!spec.choices.empty()) row["choices"] = spec.choices;
  if (const auto& [name, value, or_value] = spec.only_where; !name.empty()) {
    row["only_where"] = {{name, value}};
    if (!or_value.empty()) row["only_where"][name] = {value, or_value};
  }
  row["help"] = spec.help;
  return row;
}

template <class Entry>
ordered_json algorithms_json(const std::vector<Entry>& entries) {
  ordered_json rows = ordered_json::array();
  for (const Entry& entry : entries) {
    ordered_json options = ordered_json::array();
    for (const OptionSpec& spec : entry.options) options.push_back(json_of(spec));
    rows.push_back({{"name", entry.name}, {"summary", entry.summary}, {"options", std::move(options)}});
  }
  return rows;
}

ordered_json catalogue() {
  ordered_json result;
  result["transforms"] = algorithms_json(transforms());
  result["solvers"] = algorithms_json(solvers());
  result["observers"] = ordered_json::array();
  for (const RangeMethodRow& row : range_methods())
    result["observers"].push_back({{"name", row.name}, {"summary", row.summary}});
  result["data"] = ordered_json::array();
  for (const DataKindRow& row : data_kinds())
    result["data"].push_back({{"name", row.extension}, {"summary", row.summary}});
  result["formats"] = ordered_json::array();
  for (const Target& row : targets())
    result["formats"].push_back({{"name", row.name}, {"summary", row.summary}});
  result["layouts"] = ordered_json::array();
  for (const KernelLayout& row : kernel_layouts())
    result["layouts"].push_back({{"name", row.name}, {"summary", row.summary}});
  result["families"] = ordered_json::array();
  for (const FamilyInfo& row : supported_families()) {
    result["families"].push_back({{"name", row.model_type}, {"summary", row.description}});
  }
  result["targets"] = role_targets();
  return result;
}

std::string describe_option(const ordered_json& option) {
  std::string text = option["help"].get<std::string>();
  if (option.contains("bounds")) {
    text += fmt::format(" ({} to {})", option["bounds"][0].get<double>(), option["bounds"][1].get<double>());
  }
  if (option.contains("choices")) {
    text += fmt::format(" ({})", join_words(option["choices"].get<std::vector<std::string>>()));
  }
  return fmt::format("      {:<24}{}\n",
                     fmt::format("{}: {}", option["name"].get<std::string>(), option["default"].dump()),
                     text);
}

std::string describe_section(const std::string& title, const ordered_json& rows) {
  std::string text = title + "\n";
  for (const ordered_json& row : rows) {
    text += fmt::format("  {:<20}{}\n", row["name"].get<std::string>(), row["summary"].get<std::string>());
    if (!row.contains("options")) continue;
    for (const ordered_json& option : row["options"]) text += describe_option(option);
  }
  return text + "\n";
}

}  // namespace

std::string list_catalogue(const ListRequest& request) {
  const ordered_json all = catalogue();
  if (request.json) return all.dump(2) + "\n";
  std::string text;
  text += describe_section("Transforms (a recipe's `transforms`)", all["transforms"]);
  text += describe_section("Solvers (a rule's `solver`)", all["solvers"]);
  text += describe_section("Observers (a solver's `range`: how a group's range is found)", all["observers"]);
  text += describe_section("Calibration data (`calibration.data`, --calib)", all["data"]);
  text += describe_section("Formats (`output.formats`)", all["formats"]);
  text += describe_section("Kernel layouts (`output.formats`, beside a checkpoint)", all["layouts"]);
  text += describe_section("Model families (config.json's model_type)", all["families"]);
  text += "Target words (a rule's `targets`, `ignore`), beside /regular expressions/\n  " +
          join_words(role_targets()) + "\n";
  return text;
}

}  // namespace lathe
