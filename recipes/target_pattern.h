// Targets of rules and ignore lists: role words, or /regular expressions/ on module names.
#pragma once

#include <optional>
#include <string>

namespace lathe {

/// Does the target start with a slash?
bool is_pattern(const std::string& target);
/// What stands between the slashes; the closing one may be left out (names hold none).
std::string pattern_expression(const std::string& target);
/// Why the expression can't be used, or nothing.
std::optional<std::string> pattern_error(const std::string& target);

}  // namespace lathe
