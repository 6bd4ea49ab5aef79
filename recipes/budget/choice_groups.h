// The groups of a plan's weights that get one scheme each, before anyone says which candidates they can have.
#pragma once

#include <vector>

#include "recipes/budget/choice_plan.h"

namespace lathe {

/// Quantised linears that engines stack into one weight (fused_with()), those of different rules apart.
std::vector<ChoiceGroup> stacked_groups(const Plan& plan, const ModelGraph& graph);

/// One tensor of a GGUF file; of a stack of experts, its first matrix's plan.
struct GgufGroup {
  ChoiceGroup group;
  const GgufOutputTensor* tensor = nullptr;  // of the plan
};
/// The matrices of the plan's first output, a GGUF file, but for routers and linears that no rule quantises.
std::vector<GgufGroup> gguf_groups(const Plan& plan, const ModelGraph& graph);

}  // namespace lathe
