#include "formats/targets/name_match.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "formats/safetensors/json_text.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

constexpr std::string_view kRegexPrefix = "re:";

void* compile(const std::string& pattern, const std::string& where) {
  const std::string expression = pattern.substr(kRegexPrefix.size());
  int code = 0;
  PCRE2_SIZE offset = 0;
  void* compiled = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(),
                                 PCRE2_ANCHORED | PCRE2_UTF, &code, &offset, nullptr);
  if (compiled == nullptr) {
    char message[128] = {};
    pcre2_get_error_message(code, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof message);
    user_error("{}: bad regular expression {}: {} at offset {}", where, quote_text(pattern), message, offset);
  }
  return compiled;
}

bool matches(void* compiled, const std::string& name, const std::string& where) {
  const auto* code = static_cast<const pcre2_code*>(compiled);
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(
      pcre2_match_data_create_from_pattern(code, nullptr), pcre2_match_data_free);
  const int result =
      pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(name.data()), name.size(), 0, 0, data.get(), nullptr);
  if (result < 0 && result != PCRE2_ERROR_NOMATCH) {  // an expression that backtracks without end
    user_error("{}: a regular expression gave up on '{}' (PCRE2 error {}); write it simpler", where, name,
               result);
  }
  return result >= 0;
}

}  // namespace

NamePatterns::NamePatterns(std::vector<std::string> patterns, const std::string& where)
    : where_(where), patterns_(std::move(patterns)), compiled_(patterns_.size(), nullptr) {
  try {
    for (size_t i = 0; i < patterns_.size(); ++i) {
      if (patterns_[i].starts_with(kRegexPrefix)) compiled_[i] = compile(patterns_[i], where);
    }
  } catch (...) {
    for (void* code : compiled_) pcre2_code_free(static_cast<pcre2_code*>(code));
    throw;
  }
}

NamePatterns::NamePatterns(NamePatterns&& other) noexcept = default;  // the moved-from vector is empty

NamePatterns& NamePatterns::operator=(NamePatterns&& other) noexcept {
  std::swap(where_, other.where_);
  std::swap(patterns_, other.patterns_);
  std::swap(compiled_, other.compiled_);
  return *this;
}

NamePatterns::~NamePatterns() {
  for (void* code : compiled_) pcre2_code_free(static_cast<pcre2_code*>(code));
}

MatchKind NamePatterns::match(const std::string& linear) const {
  MatchKind best = MatchKind::none;
  for (size_t i = 0; i < patterns_.size(); ++i) {
    if (compiled_[i] != nullptr) {
      if (best > MatchKind::regex && matches(compiled_[i], linear, where_)) best = MatchKind::regex;
    } else if (patterns_[i] == linear) {
      return MatchKind::exact;
    } else if (patterns_[i] == "Linear") {
      best = std::min(best, MatchKind::class_name);
    }
  }
  return best;
}

}  // namespace lathe
