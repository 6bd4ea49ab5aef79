// What will happen: the recipe applied to one model, from headers alone. The driver follows it, --dry-run
// prints it.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "formats/gguf/gguf_plan.h"
#include "formats/layouts/layout.h"
#include "formats/targets/target.h"
#include "lib/model/graph.h"
#include "lib/tensor/tensor_view.h"
#include "recipes/recipe.h"

namespace lathe {

/// What happens to one linear.
struct LinearPlan {
  const Linear* linear = nullptr;  // of the graph that the plan was made from
  bool quantized = false;
  size_t rule = 0;           // index into Recipe::rules, where quantized
  Scheme scheme;             // where quantized
  bool group_index = false;  // where quantized: will its solver reorder groups?
  std::string reason;        // why it is left in floating point, where not
  std::optional<ActivationScheme> activations = std::nullopt;  // where quantized; none: weights only

  /// "int8 sym channel, input int8 sym dynamic per token", where quantized.
  std::string describe() const { return with_input(scheme.describe(), activations); }
  /// Are both quantised alike, or both not at all?
  bool same_scheme(const LinearPlan& other) const {
    return quantized == other.quantized &&
           (!quantized || (scheme == other.scheme && activations == other.activations));
  }
};

/// One output format and where it goes.
struct OutputPlan {
  const Target* target = nullptr;
  std::string subfolder;  // empty where there is only one format
  std::vector<PlannedTensor> tensors;
  std::optional<GgufOutput> gguf = std::nullopt;  // with Target::gguf, in place of `tensors`
  uint64_t bytes = 0;                      // but for tensors whose length is known when they are written
  bool open_tensors = false;               // are there such?
  std::vector<std::string> warnings = {};  // what of it not every consumer can load

  /// Bits for one weight of a linear as it stands in the files: codes, scales, zero points and whatever else
  /// the format stores beside them. Nothing where that is known only when it is written (GGUF's blocks,
  /// outliers).
  std::optional<double> stored_bits(const PlannedLinear& linear) const;
};

/// A kernel layout beside the checkpoints, in layouts/<name>.
struct LayoutPlan {
  const KernelLayout* layout = nullptr;
  std::vector<PlannedTensor> tensors;
  uint64_t bytes = 0;
};

struct Plan {
  DType scale_dtype = DType::F16;  // of scales on disk: the model's float type (F16 for an F32 model)
  std::vector<std::vector<LinearPlan>> blocks;  // as ModelGraph::blocks, in the order of Block::linears
  LinearPlan lm_head;
  std::vector<OutputPlan> outputs;  // one at least
  std::vector<LayoutPlan> layouts;
  /// Linears outside the graph that are carried through (multi-token prediction heads), by their weights.
  std::vector<std::string> carried = {};
  std::optional<KvCacheScheme> kv_cache = std::nullopt;  // which the outputs hold scales for
  uint64_t input_bytes = 0;
  std::vector<std::string> warnings;  // of the run, whatever it writes; an output's own stand with it

  /// All linears in forward order, the head last.
  std::vector<const LinearPlan*> linears() const;
  /// What a run works on one after the other: the blocks, then the head where it is quantised.
  size_t parts() const { return blocks.size() + (lm_head.quantized ? 1 : 0); }
  /// The linears of a part, as ModelGraph::part().
  std::span<const LinearPlan> part(size_t index) const {
    return index == blocks.size() ? std::span(&lm_head, 1) : std::span<const LinearPlan>(blocks.at(index));
  }

  bool quantizes_any() const;
  /// Does an output round weights by itself?
  bool rounds_weights() const;
  /// What the outputs' consumers can't load, each once.
  std::vector<std::string> output_warnings() const;
  /// Of the quantised linears, as they stand in one of its outputs; outliers come on top.
  double bits_per_weight(const OutputPlan& output) const;
  /// A quantised linear as targets want it.
  PlannedLinear planned(const LinearPlan& linear) const;
  /// The quantised linears in forward order.
  std::vector<PlannedLinear> quantized() const;
  /// Names of linears left in floating point, in forward order.
  std::vector<std::string> kept() const;
  /// The same, those outside blocks that the graph knows, and carried ones: what targets call `ignored`.
  std::vector<std::string> floating(const ModelGraph& graph) const;
};

/// UserError where a word of the recipe decides nothing, linears that consumers fuse (q/k/v, gate/up) would
/// get different schemes, experts get several, or a target or layout can't hold a scheme for
/// a shape. `tensors` is the
/// whole checkpoint.
Plan make_plan(const Recipe& recipe, const ModelGraph& graph,
               const std::map<std::string, TensorInfo>& tensors);

/// The same without what is written of it: which linears are quantised, and how. `outputs`, `layouts`,
/// `carried` and `input_bytes` are empty.
Plan plan_linears(const Recipe& recipe, const ModelGraph& graph);

/// What a GGUF output can be made from beside a solver's codes.
struct GgufSources {
  bool weights = true;       // the solver's weights; else nothing but codes
  bool importances = false;  // of the solver's input, or from a file
  std::vector<GgufTypeChoice> types = {};
};

/// Adds an output in this format to a plan whose linears are decided. UserError where the target can't hold
/// one of them, or all of them together. What not all consumers read joins its warnings.
void add_output(Plan& plan, const ModelGraph& graph, const Target& target,
                const std::map<std::string, TensorInfo>& tensors, const GgufSources& sources);

/// Adds a kernel layout to such a plan. UserError where it can't hold one of the linears.
void add_layout(Plan& plan, const KernelLayout& layout);

/// Names of the checkpoint's tensors that belong to no block (embeddings, final norm, head, and what the
/// graph doesn't know).
std::vector<std::string> names_outside_blocks(const ModelGraph& graph,
                                              const std::map<std::string, TensorInfo>& tensors);

/// Consumers take every linear for quantised that isn't named otherwise, those of prediction heads, too.
/// Which matrices of unknown modules are linears nobody can tell: all are named, but for one whose name is
/// part of a quantised linear's, for some consumers look for such parts.
std::vector<std::string> carried_linears(const Plan& plan, const ModelGraph& graph,
                                         const std::map<std::string, TensorInfo>& tensors);

/// What consumers make of one of its outputs, a line each.
std::vector<std::string> consumer_lines(const Plan& plan, const OutputPlan& output, const ModelGraph& graph);

/// The plan for people: what each rule matched, what is left alone and why, sizes and bits per weight.
std::string describe_plan(const Plan& plan, const Recipe& recipe, const ModelGraph& graph);
/// The same for programs: {"model", "rules", "transforms", "linears" (with rule and scheme, or why kept),
/// "fused" (stacks), "folds" (producers and consumers of scales, or why closed), "outputs", "layouts"}.
nlohmann::json plan_json(const Plan& plan, const Recipe& recipe, const ModelGraph& graph);

}  // namespace lathe
