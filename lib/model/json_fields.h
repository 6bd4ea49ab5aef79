// Typed access to the keys of one JSON object. Strict: a wrong type is an error that names file, key, what
// was expected and what was found; nothing is converted. `null` counts as absent, as everywhere in Hugging
// Face's configs.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace lathe {

class JsonFields {
 public:
  /// `prefix` is put before keys in messages ("rope_scaling."). UserError where `object` is no JSON object.
  JsonFields(const nlohmann::json& object, std::string file, std::string prefix = "");

  /// nullptr for an absent key and for null.
  const nlohmann::json* find(const std::string& key) const;
  bool contains(const std::string& key) const { return find(key) != nullptr; }

  std::optional<int64_t> integer(const std::string& key) const;  // no fraction, fits in 64 bits
  std::optional<double> number(const std::string& key) const;    // integer or fraction
  std::optional<bool> flag(const std::string& key) const;
  std::optional<std::string> word(const std::string& key) const;

  /// An integer in [1, maximum].
  std::optional<int64_t> size(const std::string& key, int64_t maximum) const;
  int64_t required_size(const std::string& key, int64_t maximum) const;
  double required_number(const std::string& key) const;

  /// UserError "FILE: key 'KEY': expected EXPECTED, found FOUND" with the value that stands there.
  [[noreturn]] void fail(const std::string& key, std::string_view expected) const;

  const std::string& file() const { return file_; }
  const std::string& prefix() const { return prefix_; }

 private:
  const nlohmann::json& object_;
  std::string file_, prefix_;
};

}  // namespace lathe
