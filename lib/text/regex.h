// Oniguruma patterns, as tokenizer.json holds them, on PCRE2; and splitting a text at its matches.
//
// PCRE2 with UTF, UCP and MULTILINE matches Oniguruma's Ruby syntax except where a pattern is rewritten (\s,
// \w, \b, \h, \v, \p{Script}, (?m:...), {,n}) or refused (nested and intersected classes, \G, interval
// possessives, ...). Both take general categories from their own Unicode tables: PCRE2 10.42 knows
// Unicode 14.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lib/text/json_reader.h"

namespace lathe::text {

/// A byte range of a text, and whether the pattern matched it.
struct Span {
  size_t begin;
  size_t end;
  bool is_match;
};

class Regex {
 public:
  /// `where` names the file and component in errors. UserError where the pattern is malformed or can't be
  /// rewritten.
  static Regex oniguruma(std::string_view pattern, const std::string& where);
  /// Matches `text` itself.
  static Regex literal(std::string_view text, const std::string& where);

  /// The whole of `text` (valid UTF-8) as contiguous spans, matches and gaps, as `tokenizers`'
  /// Pattern::find_matches: an empty match gives an empty span, except right after the previous match. One
  /// span (0, 0) for an empty text.
  std::vector<Span> find_matches(std::string_view text) const;

 private:
  Regex(const std::string& pattern, unsigned options, const std::string& where);
  std::shared_ptr<void> code_;
};

/// {"String": text} or {"Regex": pattern}, as Replace and Split hold it.
Regex regex_of(const JsonValue& json);

/// The spans of single code points for which `predicate` holds, and the gaps between them.
std::vector<Span> find_matches(std::string_view text, bool (*predicate)(char32_t));

enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

/// Joins or drops spans as `tokenizers`' SplitDelimiterBehavior does. `is_match` has no meaning in the
/// result, which may hold empty spans.
std::vector<Span> apply_behavior(std::vector<Span> spans, SplitBehavior behavior);

/// The PCRE2 form of an Oniguruma pattern (exposed for tests). UserError where there is none.
std::string pcre2_from_oniguruma(std::string_view pattern, const std::string& where);

}  // namespace lathe::text
