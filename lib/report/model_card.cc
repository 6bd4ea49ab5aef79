#include "lib/report/model_card.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <sstream>

#include "lib/base/strings.h"

namespace lathe {
namespace {

using nlohmann::json;

/// The last part of a path, which is the model's name on a hub.
std::string model_name(const std::string& path) {
  std::filesystem::path folder = std::filesystem::path(path).lexically_normal();
  if (folder.filename().empty()) folder = folder.parent_path();
  return folder.filename().string();
}

/// The tag that a line of a YAML list holds; empty for other lines.
std::string list_item(const std::string& line) {
  const size_t item = line.find_first_not_of(' ');
  return item != std::string::npos && line.compare(item, 2, "- ") == 0 ? line.substr(item + 2) : "";
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    if (line.ends_with('\r')) line.pop_back();
    lines.push_back(line);
  }
  return lines;
}

std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t");
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

/// A key of front matter with the lines under it, as they stand.
struct Entry {
  std::string key;
  std::vector<std::string> lines;

  /// The values of a list, or the one that stands there, with their quotes.
  std::vector<std::string> values() const {
    const std::string first = trimmed(lines.front().substr(key.size() + 1));
    std::vector<std::string> found;
    if (first.starts_with('[')) {
      std::string list;
      for (const std::string& line : lines) list += line + " ";
      list = list.substr(list.find('[') + 1);
      std::istringstream stream(list.substr(0, list.rfind(']')));
      for (std::string value; std::getline(stream, value, ',');) found.push_back(trimmed(value));
    } else if (!first.empty() && !first.starts_with('#')) {
      found.push_back(first);
    } else {
      for (const std::string& line : lines) found.push_back(trimmed(list_item(line)));
    }
    std::erase(found, "");
    return found;
  }
  std::string text() const {
    std::string all;
    for (const std::string& line : lines) all += line + "\n";
    return all;
  }
};

/// Of a card's front matter; none where it has no end.
std::vector<Entry> front_matter(const std::string& card) {
  std::vector<Entry> entries;
  const std::vector<std::string> lines = lines_of(card);
  if (lines.empty() || lines.front() != "---") return entries;
  for (auto line = lines.begin() + 1; line != lines.end(); ++line) {
    if (*line == "---") return entries;
    const size_t colon = line->find(':');
    const bool begins = colon != std::string::npos && line->find_first_of(" -#\t") > 0;
    if (begins) {
      entries.push_back({line->substr(0, colon), {*line}});
    } else if (!entries.empty()) {
      entries.back().lines.push_back(*line);
    }
  }
  return {};
}

std::string yaml_list(const std::string& key, const std::vector<std::string>& values) {
  std::string text = key + ":\n";
  for (const std::string& value : values) text += fmt::format("- {}\n", value);
  return text;
}

/// What the hub is told: the base model's licence and languages as its card has them, its tags and what it
/// was made from beside ours.
std::string hub_matter(const std::string& name, const std::string& format, const std::string& base_card) {
  std::vector<std::string> bases = {json(name).dump(-1, ' ', false, json::error_handler_t::replace)};
  std::vector<std::string> tags = {"lathe", format};
  std::string kept;
  const auto add = [](const Entry& entry, std::vector<std::string>& values) {
    for (const std::string& value : entry.values())
      if (std::ranges::find(values, value) == values.end()) values.push_back(value);
  };
  for (const Entry& entry : front_matter(base_card)) {
    if (entry.key.starts_with("license") || entry.key == "language") kept += entry.text();
    if (entry.key == "base_model") add(entry, bases);
    if (entry.key == "tags") add(entry, tags);
  }
  const std::string base =
      bases.size() > 1 ? yaml_list("base_model", bases) : "base_model: " + bases.front() + "\n";
  return base + "base_model_relation: quantized\n" + kept + yaml_list("tags", tags);
}

std::string schemes_table(const Report& report) {
  std::map<std::string, std::pair<int64_t, double>> schemes;  // linears, and their bits added up
  for (const Report::LinearRow& row : report.linears) {
    auto& [linears, bits] = schemes[row.scheme + " | " + row.solver];
    linears += 1;
    bits += row.bits_per_weight;
  }
  std::string text = "| scheme | solver | linears | bits/weight |\n| --- | --- | --- | --- |\n";
  for (const auto& [name, totals] : schemes)
    text += fmt::format("| {} | {} | {:.3f} |\n", name, totals.first, totals.second / totals.first);
  if (!report.kept.empty()) text += fmt::format("| floating point | - | {} | - |\n", report.kept.size());
  return text;
}

std::string measured(const Report& report) {
  if (!report.evaluation) return "Not measured: the recipe asks for no evaluation.\n";
  const Report::Evaluation& e = *report.evaluation;
  return fmt::format(
      "| | before | after |\n| --- | --- | --- |\n| perplexity | {:.4f} | {:.4f} |\n"
      "| KL divergence to the unquantised model, nats | 0 | mean {:.5f}, median {:.5f}, 99 % {:.5f} |\n"
      "| same most likely token | 100 % | {:.2f} % |\n\nOn {} tokens of `{}` in windows of {}.\n",
      e.perplexity_before, e.perplexity_after, e.kl_mean, e.kl_median, e.kl_p99, 100 * e.same_top, e.tokens,
      model_name(e.text), e.ctx);
}

/// What of the recipe says how weights were rounded.
std::string recipe_text(const json& recipe) {
  json shown = json::object();
  for (const char* key : {"transforms", "rules", "ignore", "kv_cache"}) {
    if (recipe.is_object() && recipe.contains(key)) shown[key] = recipe[key];
  }
  return "```json\n" + shown.dump(2, ' ', false, json::error_handler_t::replace) + "\n```\n";
}

std::string consumers_section(const std::vector<std::string>& consumers) {
  if (consumers.empty()) return {};
  std::string text = "\n## What consumers make of it\n\n";
  for (const std::string& line : consumers) text += fmt::format("- {}\n", line);
  return text;
}

/// Lines of front matter whose tags name the new format in place of any other.
std::string retagged(const std::string& matter, const Conversion& conversion) {
  std::vector<std::string> lines = lines_of(matter);
  const auto stale = [&](const std::string& tag) {
    return tag == "lathe" ||
           std::ranges::find(conversion.known_formats, tag) != conversion.known_formats.end();
  };
  auto line = std::ranges::find_if(lines, [](const std::string& l) { return l.starts_with("tags:"); });
  if (line == lines.end()) line = lines.insert(line, "tags:");
  if (line->starts_with("tags: [")) {
    line->insert(7, fmt::format("lathe, {}, ", conversion.format));
  } else {
    auto next = line + 1;
    const std::string indent =
        next != lines.end() && !list_item(*next).empty() ? next->substr(0, next->find('-')) : std::string();
    while (next != lines.end() && !list_item(*next).empty())
      next = stale(list_item(*next)) ? lines.erase(next) : next + 1;
    for (const std::string& tag : {conversion.format, std::string("lathe")})
      lines.insert(std::ranges::find_if(lines, [](const auto& l) { return l.starts_with("tags:"); }) + 1,
                   fmt::format("{}- {}", indent, tag));
  }
  std::string text;
  for (const std::string& each : lines) text += each + "\n";
  return text;
}

}  // namespace

std::string model_card(const Report& report, const std::string& format, const std::string& how_to_load,
                       const std::vector<std::string>& consumers, const std::string& base_card) {
  const std::string name = model_name(report.model.path);
  const Report::Totals& totals = report.totals;
  std::string text =
      fmt::format("---\n{}---\n\n# {}, quantised\n\n", hub_matter(name, format, base_card), name);
  text += fmt::format(
      "Quantised by Lathe {} into the format {}: weight files of {} instead of {}, {:.3f} bits for each "
      "quantised weight with scales, {:.3f} for each parameter of the model.\n\n",
      report.environment.version, format, human_bytes(totals.bytes_after), human_bytes(totals.bytes_before),
      totals.bits_per_quantized_weight, totals.bits_per_parameter);
  text += schemes_table(report) + "\n## What it costs\n\n" + measured(report);
  text += "\n## How to load it\n\n" + how_to_load + consumers_section(consumers);
  text += "\n## Recipe\n\n" + recipe_text(report.recipe) +
          "\n`manifest.json` has all of it, and the hash of every other file; `report.md` has every layer.\n";
  if (!base_card.empty()) text += "\n## Card of the base model\n\n" + base_card;
  return text;
}

std::string converted_card(const Conversion& conversion, const std::string& card) {
  size_t front = 0;  // the front matter's length
  if (card.starts_with("---\n")) {
    const size_t end = card.find("\n---\n", 3);
    if (end != std::string::npos) front = end + 5;
  }
  const std::string matter = front > 0 ? card.substr(4, front - 8) : std::string();
  std::string text = fmt::format(
      "---\n{}---\n\n# Converted to {}\n\nEvery code, scale and zero point is that of the artefact that this "
      "one was made from.\n\n## How to load it\n\n{}",
      retagged(matter, conversion), conversion.format, conversion.how_to_load);
  text += consumers_section(conversion.consumers);
  if (front < card.size())
    text += "\n## Card of that artefact (its format is another)\n\n" + card.substr(front);
  return text;
}

}  // namespace lathe
