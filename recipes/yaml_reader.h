// Typed, strict reading of a YAML tree. Every refusal is `where: key: expected ..., found ...`.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "recipes/yaml_tree.h"

namespace lathe {

/// A value with the dotted path that leads to it ("rules[0].scheme.bits"). Refers to the tree, which must
/// outlive it.
class YamlField {
 public:
  YamlField(const YamlValue& value, std::string path) : value_(&value), path_(std::move(path)) {}

  const std::string& where() const { return value_->where; }
  const std::string& path() const { return path_; }
  bool is_null() const { return value_->kind == YamlValue::Kind::null; }
  bool is_word(std::string_view word) const { return is_scalar() && value_->scalar == word; }
  bool is_scalar() const { return value_->kind == YamlValue::Kind::scalar; }

  /// A map whose keys are all among `known`; an unknown one is refused with the nearest.
  void expect_map(const std::vector<std::string>& known) const;
  /// A map with exactly one key, such as {rtn: {}}: that item. `what` for the error.
  YamlField only_item(std::string_view what) const;
  const std::string& key() const { return value_->key; }
  const std::string& key_where() const { return value_->key_where; }

  /// Of a map: is the key there (with whatever value)?
  bool has(std::string_view key) const { return value_->find(key) != nullptr; }
  YamlField at(std::string_view key) const;

  /// The items of a list. `what` for the error: "a list of rules".
  std::vector<YamlField> list(std::string_view what) const;

  bool truth() const;
  /// `what` says more than "an integer from .. to ..", where there is more to say.
  int64_t integer(int64_t minimum, int64_t maximum, std::string_view what = "") const;
  double number(double minimum, double maximum, std::string_view what = "") const;
  /// Text that is not empty; plain numbers and truth values are refused (quotes make them text). `what`: "a
  /// path".
  std::string text(std::string_view what) const;
  /// The value whose name_of() this text is.
  template <class Enum>
  Enum one_of(std::initializer_list<Enum> values) const {
    std::vector<std::string> names;
    for (const Enum value : values) names.emplace_back(name_of(value));
    return values.begin()[index_among(names)];
  }
  /// "5GB", "200 MiB", 1024; at least `minimum`.
  uint64_t bytes(uint64_t minimum) const;

  /// where: path: expected <expected>, found <the value><hint>
  [[noreturn]] void refuse(std::string_view expected, std::string_view hint = "") const;

 private:
  size_t index_among(const std::vector<std::string>& names) const;

  const YamlValue* value_;
  std::string path_;
};

}  // namespace lathe
