// Reads a JSON value strictly: every access names the file and the path of the key in its error.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace lathe::text {

/// A value inside a JSON file, with its place ("tokenizer.json: model.vocab"). Refers to the document; does
/// not own it.
class JsonValue {
 public:
  JsonValue(const nlohmann::json& value, std::string file, std::string path = {})
      : value_(&value), file_(std::move(file)), path_(std::move(path)) {}

  /// "FILE: PATH", for errors.
  std::string where() const;
  const nlohmann::json& raw() const { return *value_; }
  bool is_null() const { return value_->is_null(); }
  bool has(
      std::string_view key) const;  ///< false as well where this is null; UserError where it is no object

  JsonValue at(const std::string& key) const;  ///< UserError where the key is missing
  /// The members of an array.
  std::vector<JsonValue> items() const;

  const std::string& text() const;
  bool boolean() const;
  /// 0 <= value < 2^31: what fits every consumer's id type.
  int64_t id() const;

  bool boolean_or(const std::string& key, bool otherwise) const;  ///< also where the key is null
  /// The text at `key`; empty where it is missing or null.
  std::string text_or_empty(const std::string& key) const;

  /// Throws: "FILE: PATH: expected ..., found ...".
  [[noreturn]] void expected(std::string_view what) const;
  /// Throws: "FILE: PATH: component 'x' is not supported; supported: ...".
  [[noreturn]] void unsupported(std::string_view component, std::string_view supported) const;

 private:
  const nlohmann::json& object() const;
  const nlohmann::json* value_;
  std::string file_;
  std::string path_;
};

/// Parses a whole file's text; UserError naming `file` where it is not JSON (or not UTF-8).
nlohmann::json parse_json(std::string_view text, const std::string& file);

}  // namespace lathe::text
