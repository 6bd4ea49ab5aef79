// How compressed-tensors names modules in `targets` and `ignore`: "re:" and a regular expression matched from
// the start of the name (Python's re.match), an exact module name, or the class name "Linear". Source:
// compressed_tensors/utils/match.py.
#pragma once

#include <string>
#include <vector>

namespace lathe {

/// The ways a pattern can name a module, most specific first: the first one wins where several groups claim a
/// module.
enum class MatchKind { exact, regex, class_name, none };

/// Patterns with their regular expressions compiled once.
class NamePatterns {
 public:
  /// UserError beginning with `where` for an expression that does not compile.
  NamePatterns(std::vector<std::string> patterns, const std::string& where);
  NamePatterns(NamePatterns&&) noexcept;
  NamePatterns& operator=(NamePatterns&&) noexcept;
  ~NamePatterns();

  /// The most specific kind in which one of the patterns names this linear.
  MatchKind match(const std::string& linear) const;
  const std::vector<std::string>& patterns() const { return patterns_; }

 private:
  std::string where_;
  std::vector<std::string> patterns_;
  std::vector<void*> compiled_;  // pcre2_code*, null for names
};

}  // namespace lathe
