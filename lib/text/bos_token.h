// Which token begins a text of a model, and whether its users put it there.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "lib/text/tokenizer.h"

namespace lathe::text {

/// Whether samples begin with BOS: as the model's tokenizer does by itself, or whatever it does.
enum class BosRule { automatic, always, never };
/// "auto", "always", "never".
constexpr std::string_view name_of(BosRule rule) {
  return rule == BosRule::automatic ? "auto" : rule == BosRule::always ? "always" : "never";
}

struct BosToken {
  std::optional<int64_t> id;  // empty: none is known
  /// Does the tokenizer put it in front of texts? As add_bos_token of tokenizer_config.json says; where that
  /// is silent, as its post-processor does.
  bool by_default = false;

  /// The token that samples begin with; empty for none. UserError, calling the model `name`, where the rule
  /// or the tokenizer asks for one and none is known.
  std::optional<int64_t> chosen(BosRule rule, const std::string& name) const;
};

/// The id is that of the one token which the tokenizer itself puts in front; else of bos_token, where the
/// vocabulary has it as one token; else bos_token_id of the model's config. `tokenizer_config`, `config`: the
/// JSON of the two files, or null.
BosToken find_bos(const Tokenizer& tokenizer, const nlohmann::json& tokenizer_config,
                  const nlohmann::json& config);
/// The same with tokenizer_config.json and config.json of a folder, which may lack both. UserError where one
/// is not JSON.
BosToken find_bos(const Tokenizer& tokenizer, const std::filesystem::path& folder);

}  // namespace lathe::text
