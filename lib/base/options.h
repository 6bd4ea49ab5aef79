// Options of an algorithm as a plain table: the algorithm declares them, the recipe reader checks them with
// file, line and column, `quantize list` prints them, and the algorithm reads typed values. No YAML here.
#pragma once

#include <map>
#include <string>
#include <variant>
#include <vector>

namespace lathe {

using OptionValue = std::variant<bool, int64_t, double, std::string>;

/// The value, or one of the two values, that another option has to have: a text, a word in place of a number,
/// or "true" or "false".
struct OptionCondition {
  std::string name, value, or_value = {};

  bool holds(const std::string& found) const {
    return found == value || (!or_value.empty() && found == or_value);
  }
};

struct OptionSpec {
  std::string name;
  OptionValue default_value;        // its alternative is the option's type
  std::string help;                 // one line
  double minimum = 0, maximum = 0;  // inclusive bounds for numbers; equal: no bounds
  /// For texts: what they may be; empty: anything. For numbers: words that may stand in their place.
  std::vector<std::string> choices;
  /// Where the option means something (no name: everywhere). A recipe that gives it another value than the
  /// default elsewhere is refused.
  OptionCondition only_where = {};
};

/// Values by name; always complete (defaults filled in).
class Options {
 public:
  Options() = default;
  /// All defaults.
  explicit Options(const std::vector<OptionSpec>& specs) {
    for (const OptionSpec& spec : specs) values_[spec.name] = spec.default_value;
  }
  void set(const std::string& name, OptionValue value) { values_[name] = std::move(value); }
  bool flag(const std::string& name) const { return std::get<bool>(values_.at(name)); }
  int64_t integer(const std::string& name) const { return std::get<int64_t>(values_.at(name)); }
  double number(const std::string& name) const { return std::get<double>(values_.at(name)); }
  const std::string& word(const std::string& name) const { return std::get<std::string>(values_.at(name)); }
  bool is_word(const std::string& name) const {
    return std::holds_alternative<std::string>(values_.at(name));
  }
  const std::map<std::string, OptionValue>& all() const { return values_; }

 private:
  std::map<std::string, OptionValue> values_;
};

}  // namespace lathe
