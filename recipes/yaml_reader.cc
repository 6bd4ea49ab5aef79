#include "recipes/yaml_reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include "lib/base/error.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

std::string join_path(const std::string& path, std::string_view key) {
  return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
}

std::optional<bool> parse_truth(const std::string& text) {
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  return std::nullopt;
}

/// All of `text` as a T (decimal), or nothing. A leading '+' is allowed.
template <class T>
std::optional<T> parse_number(std::string_view text) {
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

template <class T>
std::string describe_range(std::string_view kind, T minimum, T maximum) {
  if (maximum == std::numeric_limits<T>::max()) return fmt::format("{} of at least {}", kind, minimum);
  return fmt::format("{} from {} to {}", kind, minimum, maximum);
}

}  // namespace

void YamlField::refuse(std::string_view expected, std::string_view hint) const {
  const std::string key = path_.empty() ? std::string() : path_ + ": ";
  user_error("{}: {}expected {}, found {}{}", value_->where, key, expected, value_->describe(), hint);
}

void YamlField::expect_map(const std::vector<std::string>& known) const {
  if (value_->kind != YamlValue::Kind::map) {
    refuse(known.empty() ? "an empty map, {}" : fmt::format("a map with keys among {}", join_words(known)));
  }
  for (const YamlValue& item : value_->items) {
    if (std::find(known.begin(), known.end(), item.key) != known.end()) continue;
    const std::string expected =
        known.empty() ? "no key here" : fmt::format("a key among {}", join_words(known));
    user_error("{}: {}: expected {}, found '{}'{}", item.key_where, join_path(path_, item.key), expected,
               item.key, did_you_mean(item.key, known));
  }
}

YamlField YamlField::only_item(std::string_view what) const {
  if (value_->kind != YamlValue::Kind::map || value_->items.empty()) refuse(what);
  if (value_->items.size() > 1) {
    const YamlValue& second = value_->items[1];
    user_error("{}: {}: expected {}, found a second name, '{}'", second.key_where, path_, what, second.key);
  }
  return {value_->items.front(), join_path(path_, value_->items.front().key)};
}

YamlField YamlField::at(std::string_view key) const {
  const YamlValue* item = value_->find(key);
  LATHE_ASSERT(item != nullptr, "no key {} in {}", key, path_);
  return {*item, join_path(path_, key)};
}

std::vector<YamlField> YamlField::list(std::string_view what) const {
  if (value_->kind != YamlValue::Kind::list) refuse(what);
  std::vector<YamlField> fields;
  for (size_t i = 0; i < value_->items.size(); ++i) {
    fields.emplace_back(value_->items[i], fmt::format("{}[{}]", path_, i));
  }
  return fields;
}

bool YamlField::truth() const {
  const bool scalar = value_->kind == YamlValue::Kind::scalar && value_->plain;
  const auto parsed = scalar ? parse_truth(value_->scalar) : std::nullopt;
  if (!parsed) refuse("true or false");
  return *parsed;
}

int64_t YamlField::integer(int64_t minimum, int64_t maximum, std::string_view what) const {
  const bool scalar = value_->kind == YamlValue::Kind::scalar && value_->plain;
  const auto parsed = scalar ? parse_number<int64_t>(value_->scalar) : std::nullopt;
  if (!parsed || *parsed < minimum || *parsed > maximum) {
    refuse(what.empty() ? describe_range("an integer", minimum, maximum) : std::string(what));
  }
  return *parsed;
}

double YamlField::number(double minimum, double maximum, std::string_view what) const {
  const bool scalar = value_->kind == YamlValue::Kind::scalar && value_->plain;
  const auto parsed = scalar ? parse_number<double>(value_->scalar) : std::nullopt;
  // Negated, so that a NaN is refused.
  if (!parsed || !std::isfinite(*parsed) || !(*parsed >= minimum && *parsed <= maximum)) {
    if (!what.empty()) refuse(what);
    const bool bounded = maximum < std::numeric_limits<double>::max();
    refuse(bounded ? describe_range("a number", minimum, maximum) : "a finite number");
  }
  return *parsed;
}

std::string YamlField::text(std::string_view what) const {
  if (value_->kind != YamlValue::Kind::scalar || value_->scalar.empty()) refuse(what);
  if (value_->plain && (parse_truth(value_->scalar) || parse_number<double>(value_->scalar))) {
    refuse(what, " (put it in quotes if it is meant as text)");
  }
  if (value_->scalar.find('\0') != std::string::npos) refuse(what, " with a NUL character in it");
  return value_->scalar;
}

size_t YamlField::index_among(const std::vector<std::string>& names) const {
  const std::string expected = fmt::format("{}", fmt::join(names, " or "));
  const std::string word = text(expected);
  const auto found = std::find(names.begin(), names.end(), word);
  if (found == names.end()) refuse(expected, did_you_mean(word, names));
  return static_cast<size_t>(found - names.begin());
}

uint64_t YamlField::bytes(uint64_t minimum) const {
  const auto parsed = value_->kind == YamlValue::Kind::scalar ? parse_bytes(value_->scalar) : std::nullopt;
  if (!parsed || *parsed < minimum)
    refuse(fmt::format("a size such as 5GB or 200MiB, at least {} B", minimum));
  return *parsed;
}

}  // namespace lathe
