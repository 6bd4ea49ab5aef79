// Runs without calibration data: each weight is read, rounded and written by itself, on any architecture.
#pragma once

#include "apps/quantize/requests.h"
#include "recipes/recipe.h"

namespace lathe {

/// Does the recipe say `calibration: null`? UserError where an algorithm of it works on activations, naming
/// it. And where the recipe has calibration data that nothing needs, for a family that Lathe can't run:
/// `calibration: null` would do.
bool is_weights_only(const Recipe& recipe);

/// Checkpoint in, artefact and report out (or only the plan, with --dry-run). Memory: one weight at a time,
/// and the evaluation's, which there is only where the family is known.
void run_weights_only(const RunRequest& request, Recipe recipe);

}  // namespace lathe
