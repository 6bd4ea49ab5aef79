// {name: {option: value}} checked against a table of names and their OptionSpecs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "recipes/recipe.h"
#include "recipes/yaml_reader.h"

namespace lathe {

/// Reads one choice, complete with defaults. `kind` for errors: "solver". UserError for an unknown name
/// (listing the known ones), an unknown option, a wrong type, a value out of bounds or not among the choices.
AlgorithmChoice read_choice(const YamlField& field, std::string_view kind,
                            const std::vector<NamedOptions>& known);

}  // namespace lathe
