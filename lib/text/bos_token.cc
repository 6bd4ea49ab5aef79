#include "lib/text/bos_token.h"

#include <algorithm>

#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/text/json_reader.h"

namespace lathe::text {
namespace {

using nlohmann::json;

/// The token in front of every text that is encoded with special tokens, if it is one.
std::optional<int64_t> put_in_front(const Tokenizer& tokenizer) {
  const std::vector<int64_t> bare = tokenizer.encode("a", false), full = tokenizer.encode("a", true);
  const auto found = std::search(full.begin(), full.end(), bare.begin(), bare.end());
  if (found - full.begin() != 1) return std::nullopt;
  return full.front();
}

/// "<s>", or an added token {"content": "<s>", ...}; empty for anything else.
std::string token_text(const json& object, const char* key) {
  if (!object.is_object() || !object.contains(key)) return "";
  const json& token = object.at(key);
  if (token.is_string()) return token.get<std::string>();
  return token.is_object() ? token.value("content", std::string()) : "";
}

json read(const std::filesystem::path& file) {
  return std::filesystem::exists(file) ? parse_json(read_text_file(file), file.string()) : json();
}

}  // namespace

std::optional<int64_t> BosToken::chosen(BosRule rule, const std::string& name) const {
  if (rule == BosRule::never || (rule == BosRule::automatic && !by_default)) return std::nullopt;
  if (id) return id;
  user_error(
      "{}: samples should begin with BOS ({}), but the tokenizer names no such token; set "
      "calibration.bos to never",
      name, rule == BosRule::always ? "calibration.bos is always" : "add_bos_token is true");
}

BosToken find_bos(const Tokenizer& tokenizer, const json& tokenizer_config, const json& config) {
  BosToken bos{.id = put_in_front(tokenizer)};
  bos.by_default = bos.id.has_value();
  if (tokenizer_config.is_object() && tokenizer_config.contains("add_bos_token") &&
      tokenizer_config.at("add_bos_token").is_boolean())
    bos.by_default = tokenizer_config.at("add_bos_token").get<bool>();
  if (bos.id) return bos;
  if (const std::string text = token_text(tokenizer_config, "bos_token"); !text.empty()) {
    const std::vector<int64_t> ids = tokenizer.encode(text, false);
    if (ids.size() == 1) bos.id = ids.front();
  }
  if (!bos.id && config.is_object() && config.contains("bos_token_id")) {
    const json& number = config.at("bos_token_id");
    if (number.is_number_integer() && number >= 0) bos.id = number.get<int64_t>();
  }
  return bos;
}

BosToken find_bos(const Tokenizer& tokenizer, const std::filesystem::path& folder) {
  return find_bos(tokenizer, read(folder / "tokenizer_config.json"), read(folder / "config.json"));
}

}  // namespace lathe::text
