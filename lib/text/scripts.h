// Which writing systems a text uses, and whether two texts say the same.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace lathe::text {

/// Letters by script: "Latin", "Cyrillic", "Han", ...; "Other" for scripts without a row in the table.
using ScriptCounts = std::map<std::string, int64_t>;

/// Adds the letters (general category L) of `text` (valid UTF-8) by their Unicode Script property, as PCRE2
/// knows it. Letters of the scripts Common and Inherited are not counted.
void add_scripts(std::string_view text, ScriptCounts& counts);

/// Of all that was counted.
struct Share {
  std::string name;
  double share = 0;  // 0 to 1; 0 where no letter was counted
};
/// What was counted most; the first by name among equals.
Share largest_share(const ScriptCounts& counts);
double share_of(const ScriptCounts& counts, const std::string& script);

/// NFKC, lower case, letters and digits alone: texts that differ in white space, punctuation and case alone
/// become equal.
std::string fold_for_comparison(std::string_view text);

}  // namespace lathe::text
