#include "lib/text/languages.h"

#include <array>
#include <cstdio>  // before CLD2's header, which uses FILE

#include <cld2/public/compact_lang_det.h>
#include <cld2/public/encodings.h>

#include <algorithm>

namespace lathe::text {
namespace {

constexpr size_t kParts = 16, kPartBytes = 1024;

/// The first character that begins at `at` or behind it.
size_t char_begin(std::string_view text, size_t at) {
  while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) ++at;
  return at;
}

/// The parts that are looked at, a line each.
std::string sampled(std::string_view text) {
  if (text.size() <= kParts * kPartBytes) return std::string(text);
  std::string parts;
  for (size_t i = 0; i < kParts; ++i) {
    const size_t begin = char_begin(text, i * (text.size() - kPartBytes) / (kParts - 1));
    const size_t end = char_begin(text, std::min(begin + kPartBytes, text.size()));
    parts.append(text.substr(begin, end - begin)).append("\n");
  }
  return parts;
}

/// CLD2 writes ENGLISH, and ChineseT of Chinese in traditional letters.
std::string name_of(CLD2::Language language) {
  if (language == CLD2::CHINESE_T) return "Traditional Chinese";
  std::string name = CLD2::LanguageName(language);
  const bool capitals = std::ranges::none_of(name, [](char c) { return c >= 'a' && c <= 'z'; });
  for (size_t i = 1; capitals && i < name.size(); ++i) {
    if (name[i] >= 'A' && name[i] <= 'Z') name[i] = static_cast<char>(name[i] - 'A' + 'a');
  }
  return name;
}

}  // namespace

void add_languages(std::string_view text, LanguageCounts& counts) {
  const std::string looked_at = sampled(text);
  const CLD2::CLDHints no_hints{nullptr, nullptr, CLD2::UNKNOWN_ENCODING, CLD2::UNKNOWN_LANGUAGE};
  std::array<CLD2::Language, 3> languages{};
  std::array<int, 3> percents{};
  std::array<double, 3> scores{};
  int letters = 0, valid = 0;
  bool reliable = false;
  CLD2::ExtDetectLanguageSummaryCheckUTF8(looked_at.data(), static_cast<int>(looked_at.size()),
                                          /*is_plain_text=*/true, &no_hints, /*flags=*/0, languages.data(),
                                          percents.data(), scores.data(), nullptr, &letters, &reliable,
                                          &valid);
  int64_t left = letters;
  for (size_t i = 0; reliable && i < languages.size(); ++i) {
    if (languages[i] == CLD2::UNKNOWN_LANGUAGE) continue;
    const int64_t bytes = static_cast<int64_t>(letters) * percents[i] / 100;
    if (bytes > 0) counts[name_of(languages[i])] += bytes;
    left -= bytes;
  }
  // A percent is lost to rounding.
  if (left > letters / 50) counts[kUnknownLanguage] += left;
}

}  // namespace lathe::text
