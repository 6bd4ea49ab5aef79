// llama.cpp's converter recognises tokenizers by a hash of the ids of one text, which fails for every
// vocabulary that it was not told of. What matters is how text is cut, and tokenizer.json says so: each row
// here is a pattern that llama.cpp's table of names has (src/llama-vocab.cpp, llm_tokenizer_bpe; "original
// regex from tokenizer.json"), with that name.
#include "formats/gguf/pre_tokenizer_names.h"

#include <algorithm>
#include <array>
#include <vector>

namespace lathe {
namespace {

using nlohmann::json;

#define LATHE_CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define LATHE_REST " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LATHE_REST_SLASH " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LATHE_UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LATHE_LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define LATHE_LEAD "[^\\r\\n\\p{L}\\p{N}]?"

constexpr std::string_view kLlama3 = LATHE_CONTRACTIONS "|" LATHE_LEAD "\\p{L}+|\\p{N}{1,3}|" LATHE_REST;
constexpr std::string_view kQwen2 = LATHE_CONTRACTIONS "|" LATHE_LEAD "\\p{L}+|\\p{N}|" LATHE_REST;
constexpr std::string_view kTekken = LATHE_LEAD LATHE_UPPER "*" LATHE_LOWER "+|" LATHE_LEAD LATHE_UPPER
                                                            "+" LATHE_LOWER "*|\\p{N}|" LATHE_REST_SLASH;
constexpr std::string_view kGpt4o =
    LATHE_LEAD LATHE_UPPER "*" LATHE_LOWER "+" LATHE_CONTRACTIONS "?|" LATHE_LEAD LATHE_UPPER "+" LATHE_LOWER
                           "*" LATHE_CONTRACTIONS "?|\\p{N}{1,3}|" LATHE_REST_SLASH;

constexpr std::array<PreTokenizerName, 8> kNames = {{
    {"gpt-2", ""},
    {"smollm", "", true},
    {"llama-bpe", kLlama3, false, true},
    {"smaug-bpe", kLlama3},
    {"qwen2", kQwen2},
    {"tekken", kTekken, false, true},
    {"gpt-4o", kGpt4o},
    // Read only: the same cut under another name.
    {"starcoder", "", true},
}};

std::string text_at(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

bool truth_at(const json& object, const char* key, bool otherwise) {
  const auto found = object.find(key);
  return found != object.end() && found->is_boolean() ? found->get<bool>() : otherwise;
}

/// The pre-tokenizers one after the other.
std::vector<json> steps_of(const json& pre_tokenizer) {
  if (!pre_tokenizer.is_object()) return {};
  if (text_at(pre_tokenizer, "type") != "Sequence") return {pre_tokenizer};
  const auto steps = pre_tokenizer.find("pretokenizers");
  if (steps == pre_tokenizer.end() || !steps->is_array()) return {};
  return steps->get<std::vector<json>>();
}

/// The pattern of a Split into pieces; nothing for another step.
std::optional<std::string> split_pattern(const json& step) {
  if (text_at(step, "type") != "Split" || truth_at(step, "invert", false)) return std::nullopt;
  if (text_at(step, "behavior") != "Isolated" || !step.contains("pattern")) return std::nullopt;
  const std::string pattern = step["pattern"].is_object() ? text_at(step["pattern"], "Regex") : "";
  return pattern.empty() ? std::nullopt : std::optional(pattern);
}

}  // namespace

std::optional<std::string_view> pre_tokenizer_name(const json& tokenizer) {
  const auto component = tokenizer.find("pre_tokenizer");
  if (component == tokenizer.end()) return std::nullopt;
  const std::vector<json> steps = steps_of(*component);
  if (steps.empty() || steps.size() > 2 || text_at(steps.back(), "type") != "ByteLevel") return std::nullopt;
  const json& last = steps.back();
  if (truth_at(last, "add_prefix_space", true)) return std::nullopt;
  const bool own_pattern = truth_at(last, "use_regex", true);
  std::string pattern;
  bool digits = false;
  if (steps.size() == 2) {
    digits = text_at(steps[0], "type") == "Digits" && truth_at(steps[0], "individual_digits", false);
    if (!digits) {
      const auto found = split_pattern(steps[0]);
      if (!found) return std::nullopt;
      pattern = *found;
    }
  }
  if (own_pattern != pattern.empty()) return std::nullopt;
  const bool ignore_merges =
      tokenizer.contains("model") && truth_at(tokenizer["model"], "ignore_merges", false);
  const auto row = std::ranges::find_if(kNames, [&](const PreTokenizerName& name) {
    return name.pattern == pattern && name.digits == digits && name.ignore_merges == ignore_merges;
  });
  return row == kNames.end() ? std::nullopt : std::optional(row->name);
}

const PreTokenizerName* find_pre_tokenizer(std::string_view name) {
  const auto row = std::ranges::find(kNames, name, &PreTokenizerName::name);
  return row == kNames.end() ? nullptr : &*row;
}

}  // namespace lathe
