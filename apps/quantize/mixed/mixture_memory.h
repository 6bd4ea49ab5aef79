// Memory of the run that a mixture will take, before its candidates are measured.
#pragma once

#include "apps/quantize/requests.h"
#include "apps/quantize/run_text.h"
#include "formats/targets/model_folder.h"
#include "recipes/budget/choice_plan.h"
#include "recipes/recipe.h"

namespace lathe {

/// Measuring takes long, and which mixture follows isn't known: a run with any one of the candidates
/// everywhere has to keep the limits, and a mixture takes no more than the most demanding of them. UserError
/// naming the candidate with which it wouldn't, and as read_run_text(). `known`: that text, where it has been
/// read.
void check_mixture_memory(const RunRequest& request, const Recipe& recipe, const ModelFolder& model,
                          const ChoicePlan& plan, const RunText* known = nullptr);

}  // namespace lathe
