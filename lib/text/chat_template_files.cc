// Where a model folder keeps its chat templates and the special tokens that they write.
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/text/chat_template.h"
#include "lib/text/json_reader.h"

namespace lathe::text {
namespace {

using nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr uint64_t kMaxBytes = 64 << 20;

std::optional<nlohmann::json> read_json(const fs::path& file) {
  if (!fs::exists(file)) return std::nullopt;
  nlohmann::json json = parse_json(read_text_file(file, kMaxBytes), file.string());
  if (!json.is_object()) user_error("{}: expected a JSON object, found {}", file.string(), json.type_name());
  return json;
}

/// "<s>", or an added token {"content": "<s>", ...}; nothing for null.
std::optional<std::string> token_text(const nlohmann::json& token) {
  if (token.is_string()) return token.get<std::string>();
  if (token.is_object() && token.contains("content") && token["content"].is_string())
    return token["content"].get<std::string>();
  return std::nullopt;
}

/// {"bos_token": ..., ...} of tokenizer_config.json, completed by special_tokens_map.json.
ordered_json special_tokens_of(const fs::path& folder) {
  ordered_json tokens = ordered_json::object();
  for (const char* file : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const auto config = read_json(folder / file);
    if (!config) continue;
    for (const auto& [key, value] : config->items()) {
      if (!key.ends_with("_token") || tokens.contains(key)) continue;
      if (const auto text = token_text(value)) tokens[key] = *text;
    }
  }
  return tokens;
}

struct Sources {
  struct Text {
    std::string text, name;
  };
  std::optional<Text> standard, tool_use;
};

/// "chat_template" of one of the JSON files: a text, or a list of named ones.
void take_sources(const nlohmann::json& json, const std::string& file, Sources& sources) {
  const auto found = json.find("chat_template");
  if (found == json.end() || found->is_null()) return;
  const std::string name = file + ": chat_template";
  if (found->is_string()) {
    sources.standard = {found->get<std::string>(), name};
    return;
  }
  for (const JsonValue& item : JsonValue(json, file).at("chat_template").items()) {
    const std::string which = item.at("name").text();
    const Sources::Text source{item.at("template").text(), fmt::format("{} '{}'", name, which)};
    if (which == "default") sources.standard = source;
    if (which == "tool_use") sources.tool_use = source;
  }
}

Sources find_sources(const fs::path& folder) {
  Sources sources;
  const auto file_source = [](const fs::path& file) -> Sources::Text {
    return {read_text_file(file, kMaxBytes), file.string()};
  };
  if (const auto file = folder / "chat_template.jinja"; fs::exists(file)) {
    sources.standard = file_source(file);
    const auto tool_file = folder / "additional_chat_templates" / "tool_use.jinja";
    if (fs::exists(tool_file)) sources.tool_use = file_source(tool_file);
    return sources;
  }
  for (const char* name : {"chat_template.json", "tokenizer_config.json"}) {
    if (sources.standard || sources.tool_use) break;
    const fs::path file = folder / name;
    if (const auto json = read_json(file)) take_sources(*json, file.string(), sources);
  }
  return sources;
}

}  // namespace

bool has_chat_template(const fs::path& model_folder) {
  const Sources sources = find_sources(model_folder);
  return sources.standard || sources.tool_use;
}

ChatTemplates open_chat_templates(const fs::path& model_folder) {
  const Sources sources = find_sources(model_folder);
  ChatTemplates templates;
  if (!sources.standard && !sources.tool_use) return templates;
  const ordered_json tokens = special_tokens_of(model_folder);
  if (sources.standard) templates.standard.emplace(sources.standard->text, sources.standard->name, tokens);
  if (sources.tool_use) templates.tool_use.emplace(sources.tool_use->text, sources.tool_use->name, tokens);
  return templates;
}

}  // namespace lathe::text
