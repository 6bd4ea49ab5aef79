// Oniguruma patterns, as tokenizer.json holds them, on PCRE2; and splitting a text at its matches.
//
// PCRE2 with UTF, UCP and MULTILINE matches Oniguruma's Ruby syntax except where a pattern is rewritten (\s,
// \w, \b, \h, \v, \p{Script}, (?m:...), {,n}) or refused (nested and intersected classes, \G, interval
// possessives, ...). Both take general categories from their own Unicode tables: PCRE2 10.42 knows
// Unicode 14.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
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

/// What takes spans in order: a borrowed callable. A list of the spans of a text is several times its size.
class SpanSink {
 public:
  template <class Callable>
  explicit SpanSink(const Callable& callable)
      : callable_(&callable),
        call_([](const void* c, const Span& span) { (*static_cast<const Callable*>(c))(span); }) {}
  void operator()(const Span& span) const { call_(callable_, span); }

 private:
  const void* callable_;
  void (*call_)(const void*, const Span&);
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
  /// span (0, 0) for an empty text. `sink` may use this and other expressions.
  void find_matches(std::string_view text, const SpanSink& sink) const;
  /// The same as a list.
  std::vector<Span> find_matches(std::string_view text) const;

 private:
  Regex(const std::string& pattern, unsigned options, const std::string& where);
  std::shared_ptr<void> code_;
};

/// {"String": text} or {"Regex": pattern}, as Replace and Split hold it.
Regex regex_of(const JsonValue& json);

/// The spans of single code points for which `predicate` holds, and the gaps between them.
void find_matches(std::string_view text, bool (*predicate)(char32_t), const SpanSink& sink);

enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

/// Joins or drops contiguous spans as `tokenizers`' SplitDelimiterBehavior does, while they come. `is_match`
/// has no meaning in the result, which may hold empty spans.
class SpanJoiner {
 public:
  SpanJoiner(SplitBehavior behavior, const SpanSink& sink) : behavior_(behavior), sink_(sink) {}
  void add(const Span& span);
  /// Passes on what waits for a span that it could be joined with; to be called after the last one.
  void finish();

 private:
  bool joins(const Span& span) const;

  SplitBehavior behavior_;
  SpanSink sink_;
  std::optional<Span> waiting_;
  bool previous_match_ = false;  // of the last span added
};

/// The PCRE2 form of an Oniguruma pattern (exposed for tests). UserError where there is none.
std::string pcre2_from_oniguruma(std::string_view pattern, const std::string& where);

}  // namespace lathe::text
