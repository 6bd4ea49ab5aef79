// What a dry run says of candidates, or of rules whose losses are asked for, before they are measured.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "apps/quantize/mixed/measure.h"
#include "recipes/budget/choice.h"

namespace lathe {

struct Unmeasured {
  const Recipe& recipe;
  const ChoicePlan& plan;
  const std::filesystem::path& file;  // where losses will stand
  std::vector<std::string> warnings = {};
};

/// What could be chosen, by sizes alone.
struct PossibleMixtures {
  Mixture least, most;  // the smallest and the largest
  Mixture stand_in;     // for what the budget will choose
  Budget budget;        // sized_budget()
};
/// The stand-in keeps a budget of bytes as the choice will: of each group are lost its weights times 4^-bits,
/// as rounding loses. Of a budget of loss, whose bytes nothing says yet, and without one it is the largest
/// mixture. UserError for a budget that the smallest doesn't keep.
PossibleMixtures possible_mixtures(const Recipe& recipe, const ModelFolder& model, const ChoicePlan& plan);

/// Groups, variants and their text; what is possible, null for rules, which leave nothing to choose; the
/// budget and its room.
std::string describe_unmeasured(const Unmeasured& unmeasured, const PossibleMixtures* possible);
/// {"schema": 1, "candidates", "groups", "variants", "sensitivity", "possible": {"least", "most"}, "budget",
/// "bytes", "stand_in", "warnings"}; null for what there isn't.
nlohmann::json unmeasured_json(const Unmeasured& unmeasured, const PossibleMixtures* possible);

/// {"memory": bytes_json() of the peak, "work": estimate_json()}.
nlohmann::json measuring_json(const MeasurementPlan& measuring);

}  // namespace lathe
