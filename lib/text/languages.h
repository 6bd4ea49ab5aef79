// Which languages a text is in.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace lathe::text {

/// Bytes of text by language: "English", "French", ...; kUnknownLanguage for what none was told of.
using LanguageCounts = std::map<std::string, int64_t>;
inline constexpr const char* kUnknownLanguage = "unknown";

/// Adds what Compact Language Detector 2 (https://github.com/CLD2Owners/cld2, 83 languages, by the letters
/// and their quadgrams) says of `text`, which is valid UTF-8: of all of it, or of sixteen parts of 1 KiB,
/// evenly, where it is longer. Texts of a few words are mostly unknown; code in English letters is taken for
/// English.
void add_languages(std::string_view text, LanguageCounts& counts);

}  // namespace lathe::text
