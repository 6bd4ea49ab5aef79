// Which consumers load an artefact as a whole, and how a person does it with them.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "formats/consumers/consumers.h"

namespace lathe {

/// Names of those that have a kernel for each kind of an artefact's linears; what "vLLM" runs, "vLLM on
/// Hopper" does, too. verdicts: of judge_consumers().
std::set<std::string> loading_consumers(const std::vector<ConsumerVerdict>& verdicts);

/// Of a target's `text` (Target::how_to_load) the ways whose consumer loads all of the artefact, or isn't
/// judged; then who is left out. Where nobody is left that says so. All of it where there are no verdicts.
std::string ways_to_load(const std::string& text, const std::vector<ConsumerVerdict>& verdicts);

}  // namespace lathe
