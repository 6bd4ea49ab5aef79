#include "apps/quantize/mixed/sensitivity_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "apps/quantize/journal/run_identity.h"
#include "formats/safetensors/json_text.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/hash.h"
#include "lib/base/strings.h"
#include "lib/eval/rank_correlation.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr uint64_t kMostBytes = uint64_t{256} << 20;
constexpr size_t kNamedGroups = 5;

/// Measures that cost no forward pass of the model, in the order of the file's keys.
struct Measure {
  const char* key;
  std::optional<double> (*of)(const GroupLoss&);
};
constexpr Measure kCheap[] = {
    {"weight_relative_mse", [](const GroupLoss& loss) { return std::optional(loss.weight_relative_mse); }},
    {"output_relative_error", [](const GroupLoss& loss) { return loss.output_relative_error; }},
    {"output_error", [](const GroupLoss& loss) { return loss.output_error; }},
    {"fisher", [](const GroupLoss& loss) { return loss.fisher; }}};

json or_null(const std::optional<double>& number) { return number ? json(*number) : json(); }

/// Of all losses of linears, or those of one candidate.
json correlations(const SensitivityTable& table, std::optional<size_t> candidate) {
  json found = json::object();
  for (const Measure& measure : kCheap) {
    std::vector<double> cheap, kl;
    for (const auto& group : table.groups) {
      for (size_t k = 0; k < group.losses.size(); ++k) {
        const auto value = measure.of(group.losses[k]);
        const auto& measured = group.losses[k].kl;
        if (group.table || !value || !measured || (candidate && group.candidates[k] != *candidate)) continue;
        cheap.push_back(*value);
        kl.push_back(*measured);
      }
    }
    found[measure.key] = or_null(spearman(cheap, kl));
  }
  return found;
}

json all_correlations(const SensitivityTable& table) {
  json result = {{"all", correlations(table, std::nullopt)}, {"by_candidate", json::array()}};
  for (size_t c = 0; c < table.candidates.size(); ++c)
    result["by_candidate"].push_back(correlations(table, c));
  return result;
}

json group_json(const SensitivityTable::Group& group) {
  json result = {{"name", group.name}, {"weights", group.weights}, {"losses", json::array()}};
  if (group.table) {
    result["table"] = group.members.front();
  } else {
    result["linears"] = group.members;
  }
  for (size_t k = 0; k < group.losses.size(); ++k) {
    const GroupLoss& loss = group.losses[k];
    result["losses"].push_back({{"candidate", group.candidates[k]},
                                {"weight_mse", loss.weight_mse},
                                {"weight_relative_mse", loss.weight_relative_mse},
                                {"output_error", or_null(loss.output_error)},
                                {"output_relative_error", or_null(loss.output_relative_error)},
                                {"kl", or_null(loss.kl)},
                                {"fisher", or_null(loss.fisher)}});
  }
  return result;
}

/// A value of the file, whose place errors name.
struct Field {
  const json& value;
  const std::string& file;
  std::string path;

  [[noreturn]] void refuse(const std::string& expected) const {
    user_error("{}: {}: expected {}, found {}; measure anew", file, path.empty() ? "the file" : path,
               expected, quote_text(value.dump(-1, ' ', true, json::error_handler_t::replace)));
  }
  Field at(const std::string& key) const {
    if (!value.is_object() || !value.contains(key)) refuse(fmt::format("an object with the key '{}'", key));
    return {value.at(key), file, path.empty() ? key : path + "." + key};
  }
  std::string text() const {
    if (!value.is_string()) refuse("a text");
    return value.get<std::string>();
  }
  std::vector<Field> list() const {
    if (!value.is_array()) refuse("a list");
    std::vector<Field> items;
    for (size_t i = 0; i < value.size(); ++i)
      items.push_back({value[i], file, fmt::format("{}[{}]", path, i)});
    return items;
  }
  double number(double minimum = 0) const {
    if (!value.is_number() || !std::isfinite(value.get<double>()) || value.get<double>() < minimum)
      refuse("a finite number");
    return value.get<double>();
  }
  std::optional<double> number_or_null(double minimum = 0) const {
    return value.is_null() ? std::nullopt : std::optional(number(minimum));
  }
  size_t index(size_t count) const {
    if (!value.is_number_unsigned() || value.get<uint64_t>() >= count)
      refuse(fmt::format("a whole number below {}", count));
    return value.get<size_t>();
  }
};

/// KL is never negative but for rounding, which is far below what anyone measures.
constexpr double kLeastKl = -1e-3;

SensitivityTable::Group read_group(const Field& field, size_t candidates) {
  SensitivityTable::Group group;
  group.name = field.at("name").text();
  group.weights = field.at("weights").number();
  group.table = field.value.contains("table");
  if (group.table) {
    group.members = {field.at("table").text()};
  } else {
    for (const Field& linear : field.at("linears").list()) group.members.push_back(linear.text());
  }
  for (const Field& loss : field.at("losses").list()) {
    group.candidates.push_back(loss.at("candidate").index(candidates));
    group.losses.push_back(
        {loss.at("weight_mse").number(), loss.at("weight_relative_mse").number(),
         loss.at("output_error").number_or_null(), loss.at("output_relative_error").number_or_null(),
         loss.at("kl").number_or_null(kLeastKl),
         loss.value.contains("fisher") ? loss.at("fisher").number_or_null() : std::nullopt});
  }
  return group;
}

/// Of a table, of which there is no estimate, what was measured stands for it.
std::optional<double> loss_of(const GroupLoss& loss, SensitivityLoss kind) {
  return kind == SensitivityLoss::fisher && loss.fisher      ? loss.fisher
         : kind == SensitivityLoss::kl || !loss.output_error ? loss.kl
                                                             : std::nullopt;
}

std::string key_of(std::vector<std::string> members) {
  std::ranges::sort(members);
  std::string key;
  for (const std::string& member : members) key += member + "\n";
  return key;
}

std::vector<std::string> members_of(const ChoiceGroup& group, const ModelGraph& graph) {
  if (group.block < 0) return {group.table};
  std::vector<std::string> names;
  for (const size_t i : group.linears)
    names.push_back(graph.blocks[static_cast<size_t>(group.block)].linears[i].name);
  return names;
}

}  // namespace

std::string model_fingerprint(const ModelFolder& model) {
  json identity = model_identity(model);
  for (auto it = identity.begin(); it != identity.end();) {
    const fs::path name(it.key());
    const bool counts =
        name.extension() == ".safetensors" || name.extension() == ".gguf" || name == "config.json";
    if (counts) it.value().erase("changed");
    it = counts ? std::next(it) : identity.erase(it);
  }
  const std::string text = identity.dump();
  return content_hash(std::as_bytes(std::span(text.data(), text.size())));
}

void write_sensitivity(const fs::path& file, const SensitivityTable& table) {
  json result = {{"schema", kSensitivitySchema},
                 {"lathe", LATHE_VERSION},
                 {"model", {{"name", table.model}, {"fingerprint", table.fingerprint}}},
                 {"data", table.data},
                 {"computed", table.computed},
                 {"candidates", table.candidates},
                 {"groups", json::array()},
                 {"rank_correlation", all_correlations(table)}};
  for (const auto& group : table.groups) result["groups"].push_back(group_json(group));
  const fs::path part = hidden_sibling(output_place(file), ".part");
  write_file(part, result.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
  fs::rename(part, file);
  sync_folder(part.parent_path());
}

SensitivityTable read_sensitivity(const fs::path& file) {
  const json whole = read_json_object(file, kMostBytes);
  const std::string name = file.string();
  const Field root{whole, name, ""};
  const Field schema = root.at("schema");
  if (schema.value != kSensitivitySchema) schema.refuse(std::to_string(kSensitivitySchema));
  SensitivityTable table;
  table.model = root.at("model").at("name").text();
  table.fingerprint = root.at("model").at("fingerprint").text();
  table.data = root.at("data").value;
  table.computed = root.at("computed").value;
  for (const Field& candidate : root.at("candidates").list()) table.candidates.push_back(candidate.value);
  for (const Field& group : root.at("groups").list())
    table.groups.push_back(read_group(group, table.candidates.size()));
  return table;
}

ChoiceLosses losses_for(const SensitivityTable& table, const fs::path& file, const Recipe& recipe,
                        const ModelFolder& model, const ChoicePlan& plan) {
  if (const std::string fingerprint = model_fingerprint(model); fingerprint != table.fingerprint) {
    user_error(
        "{}: was measured on another model ('{}', {}; {} is {}); name another file in `sensitivity.file`, or "
        "remove this one",
        file.string(), table.model, table.fingerprint, recipe.model.string(), fingerprint);
  }
  std::vector<size_t> places;  // of the recipe's candidates in the table
  for (const Candidate& candidate : recipe.candidates) {
    const auto place = std::ranges::find(table.candidates, candidate_json(candidate));
    if (place == table.candidates.end()) {
      user_error(
          "{}: candidate {} was not measured, or with other options of its solver; measure it with `quantize "
          "sensitivity`, or leave it out",
          file.string(), candidate.describe());
    }
    places.push_back(static_cast<size_t>(place - table.candidates.begin()));
  }
  std::map<std::string, const SensitivityTable::Group*> groups;
  for (const auto& group : table.groups) groups[key_of(group.members)] = &group;
  ChoiceLosses losses;
  for (const ChoiceGroup& wanted : plan.groups) {
    const auto group = groups.find(key_of(members_of(wanted, model.graph)));
    if (group == groups.end()) {
      user_error(
          "{}: '{}' was not measured as a group of its own (is `ignore` another, or the format?); measure "
          "with "
          "this recipe",
          file.string(), wanted.name);
    }
    auto& row = losses.emplace_back();
    for (const size_t c : wanted.candidates) {
      const auto& tried = group->second->candidates;
      const auto place = std::ranges::find(tried, places[c]);
      if (place == tried.end()) {
        user_error("{}: '{}' was not measured under {}; measure with this recipe", file.string(), wanted.name,
                   recipe.candidates[c].describe());
      }
      const auto loss =
          loss_of(group->second->losses[static_cast<size_t>(place - tried.begin())], recipe.sensitivity.loss);
      if (!loss) {
        user_error("{}: '{}' has no {} there (sensitivity.loss); choose the other, or measure anew",
                   file.string(), wanted.name, name_of(recipe.sensitivity.loss));
      }
      row.push_back(std::max(0.0, *loss));
    }
  }
  return losses;
}

std::string describe_sensitivity(const SensitivityTable& table, const std::vector<std::string>& names) {
  const auto line = [](const std::string& who, const json& found) {
    std::string text = fmt::format("rank       {:<28}", who);
    for (const Measure& measure : kCheap) {
      const json& rho = found.at(measure.key);
      text +=
          fmt::format("  {} {}", measure.key, rho.is_null() ? "-" : fmt::format("{:.3f}", rho.get<double>()));
    }
    return text + "\n";
  };
  const json found = all_correlations(table);
  std::string text = "rank       Spearman's correlation of cheap measures with the measured KL\n";
  text += line("all", found.at("all"));
  for (size_t c = 0; c < names.size(); ++c) text += line(names[c], found.at("by_candidate")[c]);
  for (size_t c = 0; c < names.size(); ++c) {
    std::vector<std::pair<double, std::string>> worst;
    double sum = 0;
    bool measured = true;
    for (const auto& group : table.groups) {
      const auto place = std::ranges::find(group.candidates, c);
      if (place == group.candidates.end()) continue;
      const GroupLoss& losses = group.losses[static_cast<size_t>(place - group.candidates.begin())];
      const double loss = losses.kl ? *losses.kl : losses.fisher.value_or(0);
      measured = measured && losses.kl;
      worst.emplace_back(loss, group.name);
      sum += loss;
    }
    std::ranges::sort(worst, std::greater());
    text += fmt::format("{}: {} {:.5g} in sum; most:", names[c], measured ? "KL" : "estimated KL", sum);
    for (size_t i = 0; i < std::min(kNamedGroups, worst.size()); ++i)
      text += fmt::format("{} {} {:.4g}", i > 0 ? "," : "", worst[i].second, worst[i].first);
    text += "\n";
  }
  return text;
}

}  // namespace lathe
