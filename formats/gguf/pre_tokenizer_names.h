// tokenizer.ggml.pre: the name under which llama.cpp knows how text is cut before BPE.
#pragma once

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace lathe {

/// One way to cut text: what tokenizer.json says, and llama.cpp's name for it.
struct PreTokenizerName {
  std::string_view name;
  std::string_view pattern;    // of a Split before ByteLevel; empty: ByteLevel's own pattern
  bool digits = false;         // Digits before ByteLevel, one by one
  bool ignore_merges = false;  // model.ignore_merges
};

/// The name for a byte-level BPE tokenizer.json; nothing where llama.cpp has none that cuts so.
std::optional<std::string_view> pre_tokenizer_name(const nlohmann::json& tokenizer);
/// The row of a name that files use; null for an unknown one.
const PreTokenizerName* find_pre_tokenizer(std::string_view name);

}  // namespace lathe
