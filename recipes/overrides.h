// --set key=value: the recipe's tree changed before it is read.
#pragma once

#include <string>

#include "recipes/yaml_tree.h"

namespace lathe {

/// Applies one --set argument, "rules[0].scheme.group_size=64": a dotted path with indices, and a YAML value.
/// Missing keys on the way are created; an index equal to a list's length appends; a larger one is refused;
/// [*] is every element that a list has, and there must be one.
/// The new values (and maps created for them) stand at "--set <argument>". UserError for a malformed path or
/// value, and where the path leads through a scalar, a key of a list, an index of a map, or an empty list's
/// elements.
void apply_override(YamlValue& root, const std::string& argument);

}  // namespace lathe
