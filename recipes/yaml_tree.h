// YAML as a plain tree in which every value knows where it was written, so that values from a file and from
// --set look alike to their readers. yaml-cpp stays behind this header.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lathe {

/// A null, scalar, list or map. Aliases are expanded (a copy each), so that changing one place changes only
/// that place.
struct YamlValue {
  enum class Kind { null, scalar, list, map };
  Kind kind = Kind::null;
  std::string scalar;            // its text, unquoted
  bool plain = false;            // a scalar without quotes or !!str: may be a number or truth value
  std::string where;             // "awq.yaml:7:5" (1-based line and column), or "--set rules[0].x=5"
  std::vector<YamlValue> items;  // of a list or, with their keys, of a map; in the order written
  std::string key, key_where;    // of a map's item

  /// The item with this key, or nullptr.
  YamlValue* find(std::string_view wanted);
  const YamlValue* find(std::string_view wanted) const;
  /// "'many'", "a list of 3", "nothing", ...: what an error found.
  std::string describe() const;
};

/// Parses one YAML document (yaml-cpp; YAML 1.2). UserError as `file:line:column: ...` for bad syntax, a
/// duplicate key, a key that is not a word, a custom tag, control characters or invalid UTF-8, an alias that
/// contains itself, and for no document or several.
YamlValue parse_yaml(const std::string& text, const std::string& file);

/// Parses the value of a --set argument; every position in it is `where`. Empty text is null.
YamlValue parse_yaml_value(const std::string& text, const std::string& where);

}  // namespace lathe
