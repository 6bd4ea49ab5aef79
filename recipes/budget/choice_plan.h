// What a budget can choose: the groups of linears that get one scheme each, the candidates that each can
// have, and the bytes that those take in the output.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "recipes/budget/frontier.h"
#include "recipes/plan.h"

namespace lathe {

/// Weights that get one candidate. For safetensors formats those that engines stack into one weight (q/k/v,
/// gate/up, a block's experts by kind; fused_with()), and a head of its own weight; for GGUF one tensor of
/// the file, embeddings and head included, which llama.cpp reads one by one.
struct ChoiceGroup {
  std::string name;                // "model.layers.3 mlp_in", "blk.3.attn_v.weight"
  int64_t block = -1;              // ModelGraph::part(); -1: a table
  std::vector<size_t> linears;     // of the block; empty: a table
  std::string table;               // "model.embed_tokens.weight"
  double weights = 0;              // their number
  std::vector<size_t> candidates;  // that it can have, indices into Recipe::candidates
  std::vector<uint64_t> bytes;     // of each of these; empty where none are weighed
  /// Groups of one word here have to take the same candidate; empty: none has to. Consumers read all experts
  /// of a model by one scheme.
  std::string tied;
};

struct ChoicePlan {
  std::vector<ChoiceGroup> groups;
  uint64_t fixed_bytes = 0;            // of everything else in the output
  std::optional<DType> scale_dtype;    // that bytes were counted with, where a recipe can name it
  std::vector<Scheme> schemes;         // of the candidates, as the plan has them; GGUF: none
  std::vector<std::string> consumers;  // that load all candidates together

  double weights() const;
  /// Of groups under a choice, one index into ChoiceGroup::candidates for each.
  uint64_t bytes(const std::vector<size_t>& choice) const;
  double bits_per_weight(uint64_t bytes) const { return 8 * static_cast<double>(bytes) / weights(); }
};

/// From headers alone. A candidate may leave linears in floating point, in the checkpoint's own type; not all
/// of them may. UserError where a candidate can't be had for the model and the output's format, as
/// make_plan() has it, or its size isn't known before it is written; where the format, or any one of its
/// consumers, can't take all candidates in one model; for more than one output format.
ChoicePlan plan_choices(const Recipe& recipe, const ModelGraph& graph,
                        const std::map<std::string, TensorInfo>& tensors);

/// The recipe without candidates and budget: rules (of GGUF: types of tensors) that say which group gets
/// which. choice: an index into ChoiceGroup::candidates for each group.
Recipe chosen_recipe(const Recipe& recipe, const ModelGraph& graph, const ChoicePlan& plan,
                     const std::vector<size_t>& choice);

/// The same with one candidate for all linears, where candidates are schemes: a rule for what all groups of
/// the plan hold, without naming them.
Recipe uniform_recipe(const Recipe& recipe, const ChoicePlan& plan, size_t candidate);

}  // namespace lathe
