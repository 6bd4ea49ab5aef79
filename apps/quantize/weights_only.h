// Runs without calibration data: each weight is read, rounded and written by itself, on any architecture.
#pragma once

#include "apps/quantize/requests.h"
#include "recipes/recipe.h"

namespace lathe {

/// Is this such a run? It is where the recipe says `calibration: null`, and where Lathe doesn't know the
/// model's family but no algorithm of the recipe needs statistics. UserError for `calibration: null` with an
/// algorithm that does, naming it.
bool is_weights_only(const Recipe& recipe);

/// Checkpoint in, artefact and report out (or only the plan, with --dry-run). Memory: one weight at a time,
/// and the evaluation's, which there is only where the family is known.
void run_weights_only(const RunRequest& request, Recipe recipe);

}  // namespace lathe
