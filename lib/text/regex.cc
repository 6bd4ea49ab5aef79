#define PCRE2_CODE_UNIT_WIDTH 8
#include "lib/text/regex.h"

#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <new>

#include "lib/base/error.h"
#include "lib/text/unicode.h"

namespace lathe::text {
namespace {

// What a match needs beside the pattern. One a thread: patterns are shared, and a JIT stack is costly to
// make.
struct Workspace {
  pcre2_match_data* match = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(size_t{32} << 10, size_t{256} << 20, nullptr);

  Workspace() {
    if (match == nullptr || context == nullptr || stack == nullptr) throw std::bad_alloc();
    pcre2_jit_stack_assign(context, nullptr, stack);
    pcre2_set_match_limit(context, UINT32_MAX);  // a run of a million characters is text, not an attack
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  ~Workspace() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(match);
  }
};

std::string pcre2_message(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

}  // namespace

Regex::Regex(const std::string& pattern, unsigned options, const std::string& where) {
  std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), options,
                                   &error, &offset, context.get());
  if (code == nullptr) {
    user_error("{}: expected a regular expression that PCRE2 understands, found \"{}\" ({} at offset {})",
               where, pattern, pcre2_message(error), offset);
  }
  code_ = std::shared_ptr<void>(code, [](void* p) { pcre2_code_free(static_cast<pcre2_code*>(p)); });
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where JIT is not to be had, pcre2_match() interprets
}

Regex Regex::oniguruma(std::string_view pattern, const std::string& where) {
  // Ruby's ^ and $ are those of every line.
  return Regex(pcre2_from_oniguruma(pattern, where), PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, where);
}

Regex Regex::literal(std::string_view text, const std::string& where) {
  return Regex(std::string(text), PCRE2_UTF | PCRE2_LITERAL, where);
}

Regex regex_of(const JsonValue& json) {
  if (json.has("String")) return Regex::literal(json.at("String").text(), json.where());
  if (json.has("Regex")) return Regex::oniguruma(json.at("Regex").text(), json.where());
  json.expected(R"({"String": ...} or {"Regex": ...})");
}

void Regex::find_matches(std::string_view text, const SpanSink& sink) const {
  if (text.empty()) return sink({0, 0, false});
  thread_local const Workspace workspace;
  const auto* code = static_cast<const pcre2_code*>(code_.get());
  const PCRE2_SIZE* found = pcre2_get_ovector_pointer(workspace.match);
  size_t previous = 0;
  size_t search_from = 0;
  bool matched_before = false;
  while (search_from <= text.size()) {
    // The check of the UTF-8 would start anew at every match, which is quadratic; Tokenizer::encode has done
    // it.
    const int result = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), search_from,
                                   PCRE2_NO_UTF_CHECK, workspace.match, workspace.context);
    if (result == PCRE2_ERROR_NOMATCH) break;
    if (result < 0) {
      user_error(
          "the tokenizer's regular expression failed on the text at byte {} ({}); split the text into "
          "shorter pieces",
          search_from, pcre2_message(result));
    }
    const size_t begin = found[0];  // copied: what takes the span may match others in this workspace
    const size_t end = found[1];
    if (begin == end && matched_before && begin == previous) {
      search_from += search_from < text.size() ? char_length(text, search_from) : 1;
      continue;
    }
    if (previous != begin) sink({previous, begin, false});
    sink({begin, end, true});
    previous = search_from = end;
    matched_before = true;
  }
  if (previous != text.size()) sink({previous, text.size(), false});
}

std::vector<Span> Regex::find_matches(std::string_view text) const {
  std::vector<Span> spans;
  const auto keep = [&](const Span& span) { spans.push_back(span); };
  find_matches(text, SpanSink(keep));
  return spans;
}

void find_matches(std::string_view text, bool (*predicate)(char32_t), const SpanSink& sink) {
  if (text.empty()) return sink({0, 0, false});
  size_t gap = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t next = at + char_length(text, at);
    if (predicate(decode_char(text, at))) {
      if (gap < at) sink({gap, at, false});
      sink({at, next, true});
      gap = next;
    }
    at = next;
  }
  if (gap < text.size()) sink({gap, text.size(), false});
}

/// Whether `span` becomes one with what waits.
bool SpanJoiner::joins(const Span& span) const {
  switch (behavior_) {
    case SplitBehavior::merged_with_previous:
      return span.is_match && !previous_match_;
    case SplitBehavior::merged_with_next:  // a match that waits has not been joined with anything yet
      return !span.is_match && previous_match_;
    case SplitBehavior::contiguous:
      return span.is_match == previous_match_;
    default:
      return false;
  }
}

void SpanJoiner::add(const Span& span) {
  if (behavior_ == SplitBehavior::removed && span.is_match) return;
  if (waiting_ && joins(span)) {
    waiting_->end = span.end;
  } else {
    finish();
    waiting_ = span;
  }
  previous_match_ = span.is_match;
}

void SpanJoiner::finish() {
  if (waiting_) sink_(*waiting_);
  waiting_.reset();
}

}  // namespace lathe::text
