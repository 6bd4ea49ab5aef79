#include "recipes/options_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "lib/base/error.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

template <class Row>
std::vector<std::string> names_of(const std::vector<Row>& rows) {
  std::vector<std::string> names;
  for (const Row& row : rows) names.push_back(row.name);
  return names;
}

std::string read_word(const YamlField& field, const std::vector<std::string>& choices) {
  if (choices.empty()) return field.text("text");
  const std::string expected = fmt::format("one of {}", join_words(choices));
  const std::string word = field.text(expected);
  if (std::find(choices.begin(), choices.end(), word) == choices.end()) {
    field.refuse(expected, did_you_mean(word, choices));
  }
  return word;
}

/// A number, or one of the words that may stand in its place.
OptionValue read_number(const YamlField& field, const OptionSpec& spec, double low, double high) {
  if (spec.choices.empty()) return field.number(low, high);
  for (const std::string& word : spec.choices) {
    if (field.is_word(word)) return word;
  }
  return field.number(low, high,
                      fmt::format("a number from {} to {}, or {}", low, high, join_words(spec.choices)));
}

OptionValue read_option(const YamlField& field, const OptionSpec& spec) {
  const bool bounded = spec.minimum != spec.maximum;
  if (std::holds_alternative<bool>(spec.default_value)) return field.truth();
  if (std::holds_alternative<int64_t>(spec.default_value)) {
    const int64_t low = bounded ? static_cast<int64_t>(spec.minimum) : std::numeric_limits<int64_t>::min();
    const int64_t high = bounded ? static_cast<int64_t>(spec.maximum) : std::numeric_limits<int64_t>::max();
    return field.integer(low, high);
  }
  if (std::holds_alternative<double>(spec.default_value)) {
    constexpr double kMax = std::numeric_limits<double>::max();
    return read_number(field, spec, bounded ? spec.minimum : -kMax, bounded ? spec.maximum : kMax);
  }
  return read_word(field, spec.choices);
}

/// As conditions are written, and messages show it.
std::string shown(const OptionValue& value) {
  if (const auto* word = std::get_if<std::string>(&value)) return *word;
  return std::visit([](const auto& v) { return fmt::format("{}", v); }, value);
}

/// Refuses options that are set to no effect. Their defaults pass, so that a recipe with all of them written
/// out, as in a manifest, can be read.
void check_conditions(const YamlField& item, const std::vector<OptionSpec>& specs, const Options& options) {
  for (const OptionSpec& spec : specs) {
    const auto& [name, value, or_value] = spec.only_where;
    if (name.empty() || !item.has(spec.name)) continue;
    const std::string found = shown(options.all().at(name));
    if (spec.only_where.holds(found)) continue;
    if (options.all().at(spec.name) == spec.default_value) continue;
    item.at(spec.name).refuse(fmt::format("no value where {} is {} (only {} {}{} reads it)", name, found,
                                          name, value, or_value.empty() ? "" : " or " + or_value));
  }
}

}  // namespace

AlgorithmChoice read_choice(const YamlField& field, std::string_view kind,
                            const std::vector<NamedOptions>& known) {
  LATHE_ASSERT(!known.empty(), "no {} is registered", kind);
  const std::vector<std::string> names = names_of(known);
  const YamlField item =
      field.only_item(fmt::format("a map with one {}, such as {{{}: {{}}}}", kind, names.front()));
  const auto row =
      std::find_if(known.begin(), known.end(), [&](const NamedOptions& r) { return r.name == item.key(); });
  if (row == known.end()) {
    user_error("{}: {}: expected a known {} ({}), found '{}'{}", item.key_where(), field.path(), kind,
               join_words(names), item.key(), did_you_mean(item.key(), names));
  }
  AlgorithmChoice choice{row->name, Options(row->options)};
  if (item.is_null()) return choice;  // `rtn:` with nothing after it
  item.expect_map(names_of(row->options));
  for (const OptionSpec& spec : row->options) {
    if (item.has(spec.name)) choice.options.set(spec.name, read_option(item.at(spec.name), spec));
  }
  check_conditions(item, row->options, choice.options);
  return choice;
}

}  // namespace lathe
