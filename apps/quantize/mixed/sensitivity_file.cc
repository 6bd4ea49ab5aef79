#include "apps/quantize/mixed/sensitivity_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <span>

#include "apps/quantize/journal/run_identity.h"
#include "formats/safetensors/json_text.h"
#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/base/partial.h"
#include "lib/base/strings.h"
#include "lib/eval/rank_correlation.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr uint64_t kMostBytes = uint64_t{256} << 20;

/// Measures of a group's or a linear's loss that cost no forward pass of the model, in the order of the
/// file's keys.
template <class Loss>
struct Measure {
  const char* key;
  std::optional<double> (*of)(const Loss&);
};
constexpr Measure<LinearLoss> kCheapOfLinears[] = {
    {"output_relative_error",
     [](const LinearLoss& loss) { return std::optional(loss.output_relative_error); }},
    {"output_error", [](const LinearLoss& loss) { return std::optional(loss.output_error); }},
    {"fisher", [](const LinearLoss& loss) { return loss.fisher; }}};
constexpr Measure<GroupLoss> kCheap[] = {
    {"weight_relative_mse", [](const GroupLoss& loss) { return std::optional(loss.weight_relative_mse); }},
    {"output_relative_error", [](const GroupLoss& loss) { return loss.output_relative_error; }},
    {"output_error", [](const GroupLoss& loss) { return loss.output_error; }},
    {"fisher", [](const GroupLoss& loss) { return loss.fisher; }}};

/// Was anything estimated? Then KL stands for what has no estimate: tables, and the head.
bool is_estimated(const SensitivityTable& table) {
  return std::ranges::any_of(table.groups, [](const SensitivityTable::Group& group) {
    return std::ranges::any_of(group.losses, [](const GroupLoss& loss) { return loss.fisher.has_value(); });
  });
}

/// Losses of linears whose KL was measured: of all candidates, or of one. With estimates those that have one:
/// the head's KL is of other tokens than that of groups which check them.
std::vector<const GroupLoss*> measured_losses(const SensitivityTable& table,
                                              std::optional<size_t> candidate) {
  std::vector<const GroupLoss*> losses;
  const bool estimated = is_estimated(table);
  for (const auto& group : table.groups) {
    for (size_t k = 0; k < group.losses.size(); ++k) {
      const GroupLoss& loss = group.losses[k];
      const bool wanted = !candidate || group.candidates[k] == *candidate;
      if (!group.table && loss.kl && (loss.fisher || !estimated) && wanted) losses.push_back(&loss);
    }
  }
  return losses;
}

/// Single linears whose KL was measured.
std::vector<const LinearLoss*> measured_linears(const SensitivityTable& table) {
  std::vector<const LinearLoss*> losses;
  for (const auto& group : table.groups)
    for (const GroupLoss& loss : group.losses)
      for (const LinearLoss& linear : loss.linears)
        if (linear.kl) losses.push_back(&linear);
  return losses;
}

/// Was a group measured, but not each of its linears?
bool lacks_linears(const SensitivityTable& table) {
  return std::ranges::any_of(table.groups, [](const SensitivityTable::Group& group) {
    const auto alone = [](const GroupLoss& loss) {
      return !loss.linears.empty() &&
             std::ranges::all_of(loss.linears, [](const LinearLoss& one) { return one.kl.has_value(); });
    };
    return !group.table &&
           std::ranges::any_of(group.losses, [&](const GroupLoss& loss) { return loss.kl && !alone(loss); });
  });
}

template <class Loss>
json correlations(const std::vector<const Loss*>& losses, std::span<const Measure<Loss>> measures) {
  json found = json::object();
  for (const Measure<Loss>& measure : measures) {
    std::vector<double> cheap, kl;
    for (const Loss* loss : losses) {
      const auto value = measure.of(*loss);
      if (!value) continue;
      cheap.push_back(*value);
      kl.push_back(*loss->kl);
    }
    found[measure.key] = or_null(spearman(cheap, kl));
  }
  return found;
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
    if (group.table || loss.linears.empty()) continue;  // an older version's file has none
    json& linears = result["losses"].back()["linears"] = json::array();
    for (const LinearLoss& linear : loss.linears)
      linears.push_back({{"weight_mse", linear.weight_mse},
                         {"output_error", linear.output_error},
                         {"output_relative_error", linear.output_relative_error},
                         {"fisher", or_null(linear.fisher)},
                         {"kl", or_null(linear.kl)}});
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
  const json& object() const {
    if (!value.is_object()) refuse("an object");
    return value;
  }
  void whole_or_null() const {
    if (!value.is_null() && !value.is_number_unsigned()) refuse("a whole number or null");
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

/// One for each of the group's linears; none of what an older version wrote.
std::vector<LinearLoss> read_linears(const Field& loss, size_t count) {
  std::vector<LinearLoss> linears;
  if (!loss.value.contains("linears")) return linears;
  const Field field = loss.at("linears");
  const std::vector<Field> rows = field.list();
  if (rows.size() != count)
    field.refuse(fmt::format("a list of {}, one for each linear of the group", count));
  for (const Field& row : rows)
    linears.push_back({row.at("weight_mse").number(), row.at("output_error").number(),
                       row.at("output_relative_error").number(),
                       row.value.contains("fisher") ? row.at("fisher").number_or_null() : std::nullopt,
                       row.value.contains("kl") ? row.at("kl").number_or_null(kLeastKl) : std::nullopt});
  return linears;
}

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
         loss.value.contains("fisher") ? loss.at("fisher").number_or_null() : std::nullopt,
         group.table ? std::vector<LinearLoss>() : read_linears(loss, group.members.size())});
  }
  return group;
}

std::optional<double> loss_of(const GroupLoss& loss, SensitivityLoss kind, bool estimated) {
  if (kind == SensitivityLoss::kl) return loss.kl;
  return loss.fisher || !(estimated || !loss.output_error) ? loss.fisher : loss.kl;
}

/// Of the file's and the recipe's measured_on(): "held_out 2 (here 4)".
std::vector<std::string> said_otherwise(const SensitivityTable& table, const Recipe& recipe) {
  std::vector<std::string> others;
  const json now = measured_on(recipe);
  const auto then = table.data.find("recipe");
  if (then == table.data.end() || !then->is_object()) return others;
  std::set<std::string> keys;
  for (const json* said : {&*then, &now})
    for (const auto& [key, value] : said->items()) keys.insert(key);
  for (const std::string& key : keys) {
    const json was = then->value(key, json()), is = now.value(key, json());
    if (was != is) others.push_back(fmt::format("{} {} (here {})", key, was.dump(), is.dump()));
  }
  return others;
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
    names.push_back(graph.part(static_cast<size_t>(group.block)).linears[i].name);
  return names;
}

}  // namespace

json or_null(const std::optional<double>& number) { return number ? json(*number) : json(); }

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

json rank_correlations(const SensitivityTable& table) {
  const auto all = measured_losses(table, std::nullopt);
  json result = {{"all", correlations<GroupLoss>(all, kCheap)},
                 {"by_candidate", json::array()},
                 {"pairs", {{"all", all.size()}, {"by_candidate", json::array()}}}};
  for (size_t c = 0; c < table.candidates.size(); ++c) {
    const auto losses = measured_losses(table, c);
    result["by_candidate"].push_back(correlations<GroupLoss>(losses, kCheap));
    result["pairs"]["by_candidate"].push_back(losses.size());
  }
  if (const auto linears = measured_linears(table); !linears.empty()) {
    result["linears"] = correlations<LinearLoss>(linears, kCheapOfLinears);
    result["pairs"]["linears"] = linears.size();
  }
  return result;
}

json measured_on(const Recipe& recipe) {
  json said = recipe.to_json().at("calibration");
  said.erase("propagate");  // of the run that follows
  said["held_out"] = recipe.sensitivity.held_out;
  const json whole = recipe.to_json();
  if (!recipe.transforms.empty()) said["transforms"] = whole.at("transforms");
  if (!recipe.output.imatrix.empty()) said["imatrix"] = whole.at("output").at("imatrix");
  return said;
}

std::optional<std::string> measured_otherwise(const SensitivityTable& table, const fs::path& file,
                                              const Recipe& recipe) {
  std::vector<std::string> others = said_otherwise(table, recipe);
  if (recipe.sensitivity.linears && lacks_linears(table)) others.push_back("linears false (here true)");
  if (others.empty()) return std::nullopt;
  return fmt::format(
      "{}: was measured otherwise: {}; it is used as it is. Remove it, or name another "
      "`sensitivity.file`, to measure anew",
      file.string(), join_words(others));
}

std::optional<std::string> estimate_is_off(const SensitivityTable& table, const Recipe& recipe) {
  constexpr double kFar = 2, kLeast = 1e-5;  // nats: below that KL is rounding's
  constexpr size_t kPairs = 3;
  if (recipe.sensitivity.loss != SensitivityLoss::fisher) return std::nullopt;
  std::optional<std::string> worst;
  double farthest = kFar;
  const std::vector<std::string> names = names_of(recipe);
  for (size_t c = 0; c < table.candidates.size(); ++c) {
    double kl = 0, estimate = 0;
    size_t pairs = 0;
    for (const GroupLoss* loss : measured_losses(table, c)) {
      if (!loss->fisher) continue;
      kl += *loss->kl;
      estimate += *loss->fisher;
      ++pairs;
    }
    if (pairs < kPairs || kl < kLeast) continue;
    const double off =
        estimate > 0 ? std::max(kl / estimate, estimate / kl) : std::numeric_limits<double>::max();
    if (off <= farthest) continue;
    farthest = off;
    worst = fmt::format(
        "sensitivity: the estimate of {} is not what was measured: KL {:.3g} of {} groups that were checked, "
        "estimated {:.3g}; the mixture's predicted KL is as wrong. Measure with --set sensitivity.loss=kl "
        "--set sensitivity.held_out=4 (in a mixture of experts it alone sees that tokens go to other "
        "experts)",
        names[c], kl, pairs, estimate);
  }
  return worst;
}

void write_sensitivity(const fs::path& file, const SensitivityTable& table) {
  json result = {{"schema", kSensitivitySchema},
                 {"lathe", LATHE_VERSION},
                 {"model", {{"name", table.model}, {"fingerprint", table.fingerprint}}},
                 {"data", table.data},
                 {"computed", table.computed},
                 {"candidates", table.candidates},
                 {"groups", json::array()},
                 {"rank_correlation", rank_correlations(table)}};
  for (const auto& group : table.groups) result["groups"].push_back(group_json(group));
  replace_file(file, result.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
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
  table.data = root.at("data").object();
  for (const char* const tokens : {"held_out_tokens", "checked_tokens"})
    if (table.data.contains(tokens)) root.at("data").at(tokens).whole_or_null();
  table.computed = root.at("computed").object();
  for (const Field& candidate : root.at("candidates").list()) table.candidates.push_back(candidate.value);
  for (const Field& group : root.at("groups").list())
    table.groups.push_back(read_group(group, table.candidates.size()));
  return table;
}

SensitivityTable part_of(const SensitivityTable& table, const fs::path& file, const Recipe& recipe,
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
  SensitivityTable part = table;
  part.candidates.clear();
  for (const size_t place : places) part.candidates.push_back(table.candidates[place]);
  part.groups.clear();
  std::map<std::string, const SensitivityTable::Group*> groups;
  for (const auto& group : table.groups) groups[key_of(group.members)] = &group;
  for (const ChoiceGroup& wanted : plan.groups) {
    const auto found = groups.find(key_of(members_of(wanted, model.graph)));
    if (found == groups.end()) {
      user_error(
          "{}: '{}' was not measured as a group of its own (is `ignore` another, or the format?); measure "
          "with "
          "this recipe",
          file.string(), wanted.name);
    }
    const SensitivityTable::Group& whole = *found->second;
    SensitivityTable::Group& group = part.groups.emplace_back(whole);
    group.name = wanted.name;
    group.candidates = wanted.candidates;
    group.losses.clear();
    for (const size_t c : wanted.candidates) {
      const auto place = std::ranges::find(whole.candidates, places[c]);
      if (place == whole.candidates.end()) {
        user_error("{}: '{}' was not measured under {}; measure with this recipe", file.string(), wanted.name,
                   recipe.candidates[c].describe());
      }
      group.losses.push_back(whole.losses[static_cast<size_t>(place - whole.candidates.begin())]);
    }
  }
  return part;
}

ChoiceLosses losses_for(const SensitivityTable& part, const fs::path& file, const Recipe& recipe) {
  ChoiceLosses losses;
  const bool estimated = is_estimated(part);
  double most = 0;  // of any mixture
  for (const SensitivityTable::Group& group : part.groups) {
    auto& row = losses.emplace_back();
    for (const GroupLoss& one : group.losses) {
      const auto loss = loss_of(one, recipe.sensitivity.loss, estimated);
      if (!loss) {
        user_error("{}: '{}' has no {} there (sensitivity.loss); choose the other, or measure anew",
                   file.string(), group.name, name_of(recipe.sensitivity.loss));
      }
      row.push_back(std::max(0.0, *loss));
    }
    most += std::ranges::max(row);
  }
  if (!std::isfinite(most))
    user_error("{}: the groups' largest {} adds up to infinity; expected a finite sum; measure anew",
               file.string(), name_of(recipe.sensitivity.loss));
  return losses;
}

std::vector<std::string> names_of(const Recipe& recipe) {
  std::vector<std::string> names;
  for (const Candidate& candidate : recipe.candidates) names.push_back(candidate.describe());
  return names;
}

}  // namespace lathe
