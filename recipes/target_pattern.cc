#include "recipes/target_pattern.h"

#include <fmt/format.h>

#include <regex>

#include "lib/base/error.h"
#include "recipes/recipe.h"

namespace lathe {
namespace {

constexpr size_t kLongest = 1000;  // std::regex recurses with what it reads

/// libstdc++'s own texts speak of its implementation.
const char* reason_of(std::regex_constants::error_type code) {
  namespace rc = std::regex_constants;
  // libstdc++ gives this code for any token that is out of place, such as a leading '*'.
  if (code == rc::error_paren)
    return "a parenthesis has no partner, or a repetition (*, + or ?) has nothing to repeat";
  if (code == rc::error_brack) return "a square bracket has no partner";
  if (code == rc::error_brace || code == rc::error_badbrace) return "a repetition in braces is malformed";
  if (code == rc::error_badrepeat) return "a repetition (*, + or ?) has nothing to repeat";
  if (code == rc::error_escape) return "an escape after a backslash is unknown";
  if (code == rc::error_range) return "a range in square brackets runs backwards";
  if (code == rc::error_backref) return "a back reference names no group";
  if (code == rc::error_ctype || code == rc::error_collate) return "a character class is unknown";
  return "it is too complex";
}

}  // namespace

std::string pattern_expression(const std::string& target) {
  const bool closed = target.size() > 1 && target.back() == '/';
  return target.substr(1, target.size() - (closed ? 2 : 1));
}

bool is_pattern(const std::string& target) { return target.starts_with('/'); }

std::optional<std::string> pattern_error(const std::string& target) {
  const std::string expression = pattern_expression(target);
  if (expression.empty()) return "it is empty and would match every name";
  if (expression.size() > kLongest) return fmt::format("it has more than {} characters", kLongest);
  try {
    const std::regex compiled(expression, std::regex::ECMAScript);
  } catch (const std::regex_error& error) {
    return reason_of(error.code());
  }
  return std::nullopt;
}

bool target_matches(const std::string& target, const Linear& linear) {
  if (!is_pattern(target)) return word_matches(linear, target);
  if (const auto reason = pattern_error(target))
    user_error("'{}' is not a usable regular expression: {}", target, *reason);
  return std::regex_search(linear.name, std::regex(pattern_expression(target), std::regex::ECMAScript));
}

}  // namespace lathe
