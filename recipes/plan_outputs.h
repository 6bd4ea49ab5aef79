// What a plan writes: tensors and bytes of each output format and kernel layout.
#pragma once

#include <string>
#include <vector>

#include "formats/consumers/loading.h"
#include "recipes/plan.h"

namespace lathe {

/// Those of the recipe, for a plan whose linears are decided: checkpoints straight into the output folder or,
/// where there are several, in a folder each; layouts beside. UserError as of add_output() and add_layout().
void plan_outputs(Plan& plan, const Recipe& recipe, const ModelGraph& graph,
                  const std::map<std::string, TensorInfo>& tensors);

/// The same without tensors and bytes of outputs that are folders: for a plan that is looked at and thrown
/// away.
void check_outputs(Plan& plan, const Recipe& recipe, const ModelGraph& graph,
                   const std::map<std::string, TensorInfo>& tensors);

/// What consumers make of one of its outputs.
std::vector<ConsumerVerdict> judge_output(const Plan& plan, const OutputPlan& output,
                                          const ModelGraph& graph);
/// ways_to_load() of it, in Markdown.
std::string how_to_load(const Plan& plan, const OutputPlan& output, const ModelGraph& graph);

}  // namespace lathe
