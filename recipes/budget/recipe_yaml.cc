#include "recipes/budget/recipe_yaml.h"

#include <fmt/format.h>

#include <sstream>

namespace lathe {
namespace {

/// Patterns are full of backslashes, which single quotes leave alone.
std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? "''" : std::string(1, c);
  return result + "'";
}

/// JSON is YAML.
std::string flow(const nlohmann::json& value) {
  std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  return text;
}

std::string rule_text(const nlohmann::json& rule) {
  std::string text = "  - targets:\n";
  for (const auto& target : rule.at("targets"))
    text += fmt::format("      - {}\n", quoted(target.get<std::string>()));
  for (const char* key : {"scheme", "activations", "solver"})
    text += fmt::format("    {}: {}\n", key, flow(rule.at(key)));
  return text;
}

std::string output_text(const nlohmann::json& output) {
  std::string text = "output:\n";
  for (const auto& [key, value] : output.items()) {
    if (key != "gguf_tensor_types" || value.is_null()) {
      text += fmt::format("  {}: {}\n", key, flow(value));
      continue;
    }
    text += "  gguf_tensor_types:\n";
    for (const auto& row : value) {
      text += fmt::format("    - {{tensors: {}, type: {}}}\n", quoted(row.at("tensors").get<std::string>()),
                          row.at("type").get<std::string>());
    }
  }
  return text;
}

}  // namespace

std::string recipe_yaml(const Recipe& recipe, const std::string& heading) {
  std::string text;
  std::istringstream lines(heading);
  for (std::string line; std::getline(lines, line);) text += line.empty() ? "#\n" : "# " + line + "\n";
  const nlohmann::json json = recipe.to_json();
  text += fmt::format("model: {}\n", flow(json.at("model"))) + output_text(json.at("output"));
  for (const char* key : {"calibration", "transforms"})
    text += fmt::format("{}: {}\n", key, flow(json.at(key)));
  text += "rules:\n";
  for (const auto& rule : json.at("rules")) text += rule_text(rule);
  for (const char* key : {"ignore", "kv_cache", "evaluate", "verify", "limits", "report"})
    text += fmt::format("{}: {}\n", key, flow(json.at(key)));
  return text;
}

}  // namespace lathe
