#include "recipes/overrides.h"

#include <fmt/format.h>

#include <cctype>
#include <charconv>
#include <span>
#include <variant>

#include "lib/base/error.h"

namespace lathe {
namespace {

struct EveryElement {};
/// A key of a map, an index into a list, or [*].
using Step = std::variant<std::string, size_t, EveryElement>;
constexpr std::string_view kEvery = "[*]";

/// "rules[0].scheme" -> rules, 0, scheme. UserError naming `where`.
std::vector<Step> parse_path(std::string_view path, const std::string& where) {
  std::vector<Step> steps;
  const auto refuse = [&](size_t at) {
    user_error(
        "{}: expected a path such as rules[0].scheme.bits before '=', found '{}' (wrong from character {} "
        "on)",
        where, path, at + 1);
  };
  const auto is_word = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-';
  };
  size_t i = 0;
  while (i < path.size()) {
    if (path[i] == '[' && !steps.empty()) {
      size_t index = 0;
      if (path.substr(i).starts_with(kEvery)) {
        steps.emplace_back(EveryElement{});
        i += kEvery.size();
      } else {
        const auto [end, error] = std::from_chars(path.data() + i + 1, path.data() + path.size(), index);
        if (error != std::errc() || end == path.data() + path.size() || *end != ']') refuse(i);
        steps.emplace_back(index);
        i = static_cast<size_t>(end - path.data()) + 1;
      }
      if (i < path.size() && path[i] != '[' && path[i] != '.') refuse(i);
      continue;
    }
    if (!steps.empty()) {
      if (path[i] != '.') refuse(i);
      ++i;
    }
    const size_t start = i;
    while (i < path.size() && is_word(path[i])) ++i;
    if (i == start) refuse(i);
    steps.emplace_back(std::string(path.substr(start, i - start)));
  }
  if (steps.empty()) refuse(0);
  return steps;
}

/// The child that the step names, created where it is missing. `path` is the way to `value`, for errors.
YamlValue& descend(YamlValue& value, const Step& step, const std::string& path, const std::string& where) {
  using Kind = YamlValue::Kind;
  const bool by_key = std::holds_alternative<std::string>(step);
  if (value.kind == Kind::null) {
    value.kind = by_key ? Kind::map : Kind::list;
    value.where = where;
  }
  if (value.kind != (by_key ? Kind::map : Kind::list)) {
    user_error("{}: expected '{}' to be a {}, found {}", where, path, by_key ? "map" : "list",
               value.describe());
  }
  if (by_key) {
    const std::string& key = std::get<std::string>(step);
    if (YamlValue* found = value.find(key)) return *found;
    YamlValue child;
    child.key = key;
    child.key_where = child.where = where;
    return value.items.emplace_back(std::move(child));
  }
  const size_t index = std::get<size_t>(step);
  if (index > value.items.size()) {
    user_error("{}: expected an index of '{}' up to {} (which appends), found {}", where, path,
               value.items.size(), index);
  }
  if (index == value.items.size()) {
    value.items.emplace_back();
    value.items.back().where = where;
  }
  return value.items[index];
}

std::string extend(const std::string& path, const Step& step) {
  if (const size_t* index = std::get_if<size_t>(&step)) return fmt::format("{}[{}]", path, *index);
  const std::string& key = std::get<std::string>(step);
  return path.empty() ? key : path + "." + key;
}

/// Puts `value` at the end of the way from `place`, which is at `path`.
void assign(YamlValue& place, std::span<const Step> steps, const YamlValue& value, const std::string& path,
            const std::string& where) {
  if (steps.empty()) {
    YamlValue put = value;
    put.key = place.key;
    put.key_where = where;
    place = std::move(put);
    return;
  }
  const std::string here = path.empty() ? "the recipe" : path;
  if (!std::holds_alternative<EveryElement>(steps[0])) {
    assign(descend(place, steps[0], here, where), steps.subspan(1), value, extend(path, steps[0]), where);
    return;
  }
  if (place.kind != YamlValue::Kind::list || place.items.empty())
    user_error("{}: expected '{}' to be a list with elements, found {}", where, here, place.describe());
  for (size_t i = 0; i < place.items.size(); ++i)
    assign(place.items[i], steps.subspan(1), value, fmt::format("{}[{}]", path, i), where);
}

}  // namespace

void apply_override(YamlValue& root, const std::string& argument) {
  const std::string where = "--set " + argument;
  const size_t equals = argument.find('=');
  if (equals == std::string::npos) user_error("{}: expected key=value, found no '='", where);
  const std::vector<Step> steps = parse_path(std::string_view(argument).substr(0, equals), where);
  assign(root, steps, parse_yaml_value(argument.substr(equals + 1), where), "", where);
}

}  // namespace lathe
