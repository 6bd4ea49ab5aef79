#include "recipes/target_pattern.h"

#include <fmt/format.h>

#include <regex>
#include <unordered_map>

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

std::string usable_expression(const std::string& target) {
  if (const auto reason = pattern_error(target))
    user_error("'{}' is not a usable regular expression: {}", target, *reason);
  return pattern_expression(target);
}

/// Can it match at the first character alone: "^...", with no other choice beside that?
bool starts_anchored(const std::string& expression) {
  if (!expression.starts_with('^')) return false;
  int depth = 0;
  bool in_class = false;
  for (size_t i = 1; i < expression.size(); ++i) {
    const char c = expression[i];
    if (c == '\\') {
      ++i;
    } else if (in_class || c == '[') {
      in_class = c != ']';
    } else if (c == '(' || c == ')') {
      depth += c == '(' ? 1 : -1;
    } else if (c == '|' && depth == 0) {
      return false;
    }
  }
  return true;
}

/// A target's expression, ready to search. Compiling takes some hundred times what a search does, and a plan
/// of a mixture of experts searches in tens of thousands of names: each thread keeps what it compiled, which
/// is as many as recipes have targets. (std::regex_search looks for "^..." at each character.)
struct CompiledTarget {
  std::regex expression;
  std::regex_constants::match_flag_type flags;
};
const CompiledTarget& compiled(const std::string& target) {
  thread_local std::unordered_map<std::string, CompiledTarget> known;
  const auto found = known.find(target);
  if (found != known.end()) return found->second;
  namespace rc = std::regex_constants;
  const std::string expression = usable_expression(target);
  return known
      .emplace(target, CompiledTarget{std::regex(expression, rc::ECMAScript),
                                      starts_anchored(expression) ? rc::match_continuous : rc::match_default})
      .first->second;
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
  const CompiledTarget& pattern = compiled(target);
  return std::regex_search(linear.name, pattern.expression, pattern.flags);
}

}  // namespace lathe
