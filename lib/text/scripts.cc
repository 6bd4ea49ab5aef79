#define PCRE2_CODE_UNIT_WIDTH 8
#include "lib/text/scripts.h"

#include <pcre2.h>

#include <algorithm>
#include <array>
#include <memory>
#include <new>

#include "lib/base/error.h"
#include "lib/text/unicode.h"

namespace lathe::text {
namespace {

/// The scripts of widely used languages; the last row takes what is left.
constexpr std::array<const char*, 25> kScripts = {
    "Latin",      "Cyrillic",  "Han",      "Arabic",   "Hangul",  "Hiragana", "Katakana",
    "Devanagari", "Greek",     "Hebrew",   "Thai",     "Bengali", "Tamil",    "Telugu",
    "Kannada",    "Malayalam", "Gujarati", "Gurmukhi", "Sinhala", "Georgian", "Armenian",
    "Ethiopic",   "Khmer",     "Myanmar",  "Lao"};

/// Runs of letters, group i + 1 for those of kScripts[i], the last group for others.
std::string pattern() {
  std::string text;
  for (const char* script : kScripts) text += std::string("((?:(?=\\p{L})\\p{") + script + "})++)|";
  return text + "((?:(?![\\p{Common}\\p{Inherited}])\\p{L})++)";
}

template <auto Free>
struct Freer {
  template <class T>
  void operator()(T* pointer) const {
    Free(pointer);
  }
};

class ScriptMatcher {
 public:
  ScriptMatcher() {
    int code = 0;
    size_t offset = 0;
    const std::string text = pattern();
    pattern_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &code, &offset, nullptr));
    LATHE_ASSERT(pattern_ != nullptr, "PCRE2 error {} at {} of the script pattern", code, offset);
    pcre2_jit_compile(pattern_.get(), PCRE2_JIT_COMPLETE);
    match_.reset(pcre2_match_data_create_from_pattern(pattern_.get(), nullptr));
    if (match_ == nullptr) throw std::bad_alloc();
  }

  /// The next run of letters at or after `at`: its end and its script's number; false at the end of the text.
  bool next(std::string_view text, size_t at, size_t& begin, size_t& end, size_t& script) {
    const int groups = pcre2_match(pattern_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                                   PCRE2_NO_UTF_CHECK, match_.get(), nullptr);
    if (groups < 2) return false;
    const size_t* offsets = pcre2_get_ovector_pointer(match_.get());
    begin = offsets[0];
    end = offsets[1];
    script = static_cast<size_t>(groups) - 2;  // the highest group that matched is the only one
    return true;
  }

 private:
  std::unique_ptr<pcre2_code, Freer<pcre2_code_free>> pattern_;
  std::unique_ptr<pcre2_match_data, Freer<pcre2_match_data_free>> match_;
};

int64_t count_chars(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

int64_t total(const ScriptCounts& counts) {
  int64_t sum = 0;
  for (const auto& [script, letters] : counts) sum += letters;
  return sum;
}

}  // namespace

void add_scripts(std::string_view text, ScriptCounts& counts) {
  static thread_local ScriptMatcher matcher;
  std::array<int64_t, kScripts.size() + 1> letters{};
  size_t begin = 0, end = 0, script = 0;
  for (size_t at = 0; at < text.size() && matcher.next(text, at, begin, end, script); at = end)
    letters.at(script) += count_chars(text.substr(begin, end - begin));
  for (size_t i = 0; i < letters.size(); ++i) {
    if (letters[i] > 0) counts[i < kScripts.size() ? kScripts[i] : "Other"] += letters[i];
  }
}

Share largest_share(const ScriptCounts& counts) {
  const auto most = std::max_element(counts.begin(), counts.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most == counts.end()) return {};
  return {most->first, share_of(counts, most->first)};
}

double share_of(const ScriptCounts& counts, const std::string& script) {
  const auto found = counts.find(script);
  return found == counts.end() ? 0 : static_cast<double>(found->second) / static_cast<double>(total(counts));
}

std::string fold_for_comparison(std::string_view text) {
  const std::string lower = to_lowercase(normalize(text, NormalForm::nfkc));
  std::string folded;
  for (size_t at = 0; at < lower.size();) {
    const size_t length = char_length(lower, at);
    const char32_t c = decode_char(lower, at);
    if (is_word(c) && c != U'_') folded.append(lower, at, length);
    at += length;
  }
  return folded;
}

}  // namespace lathe::text
