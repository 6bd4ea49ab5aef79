#include "recipes/plan_outputs.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <unordered_set>

#include "lib/base/error.h"
#include "lib/model/cached_attention.h"
#include "lib/model/forward.h"
#include "recipes/target_pattern.h"

namespace lathe {
namespace {

/// Who runs the model has to rotate its inputs, so a format has to say so.
void check_rotation(const PlannedLinear& linear, const std::string& what, bool can_say) {
  if (linear.scheme.hadamard == 0 || can_say) return;
  user_error(
      "{}: {}: its input is rotated in blocks of {} (transform hadamard), which only compressed-tensors' "
      "transform_config tells those who run it; use format compressed-tensors, or leave the transform out",
      linear.name, what, linear.scheme.hadamard);
}

void check_head(const PlannedLinear& linear, const Target& target) {
  if (linear.role != LinearRole::lm_head || target.head) return;
  user_error("{}: format {}: {} (in a recipe, add lm_head to `ignore`)", linear.name, target.name,
             target.gguf != nullptr
                 ? "rounds the head by itself, from its floating-point weight"
                 : "a quantised head is written in compressed-tensors, gptq and gptq-v2 alone");
}

OutputPlan plan_gguf_output(const std::vector<PlannedLinear>& quantized, const ModelGraph& graph,
                            const Target& target, const std::map<std::string, TensorInfo>& tensors,
                            const GgufSources& sources) {
  GgufWeights weights{.solved = {},
                      .importances = sources.importances,
                      .codes_only = !sources.weights,
                      .types = sources.types};
  for (const PlannedLinear& linear : quantized) {
    check_rotation(linear, "format " + target.name, target.rotations);
    check_head(linear, target);
    if (linear.activations) {
      user_error("{}: format {}: its input would be quantised, which llama.cpp does by rules of its own",
                 linear.name, target.name);
    }
    if (!linear.scheme.floating() && linear.scheme.axis == 1 && !linear.scheme.divides(linear.in)) {
      user_error("{}: format {}: {}: groups of {} do not divide the {} input features", linear.name,
                 target.name, linear.scheme.describe(), linear.scheme.group_size, linear.in);
    }
    weights.solved[linear.name] = {linear.scheme, linear.group_index};
  }
  OutputPlan output;
  output.target = &target;
  output.gguf = plan_gguf(*target.gguf, graph, tensors, weights);
  output.bytes = output.gguf->bytes();
  return output;
}

/// Scales of the block's keys and values.
void plan_kv_cache(const Target& target, const KvCacheScheme& scheme, const KvCacheShape& shape,
                   const Block& block, const std::map<std::string, TensorInfo>& tensors, OutputPlan& output) {
  const std::string attention = attention_module(block);
  if (attention.empty()) return;
  for (PlannedTensor& scale : target.kv_cache->layout(attention, scheme, shape)) {
    if (tensors.contains(scale.name))
      user_error("tensor '{}': stands in the checkpoint, and so would the scale that kv_cache gives",
                 scale.name);
    output.tensors.push_back(std::move(scale));
  }
}

void check_kv_cache(const Plan& plan, const Target& target, std::vector<std::string>& warnings) {
  if (!plan.kv_cache) return;
  if (plan.kv_cache->low_bit()) {
    if (target.gguf != nullptr)
      user_error(
          "format {}: kv_cache: llama.cpp has no {} cache; use a format that is a folder, or leave it out",
          target.name, plan.kv_cache->type);
    warnings.push_back(
        fmt::format("kv_cache: no engine reads a {} cache by itself: `quantize eval` simulates it, README "
                    "describes its file",
                    plan.kv_cache->type));
    return;
  }
  if (target.kv_cache == nullptr) {
    user_error(
        "format {}: has no place for the scales of a quantised KV cache (kv_cache); use compressed-tensors "
        "or modelopt, or leave kv_cache out",
        target.name);
  }
  if (target.kv_cache->refuses != nullptr) {
    if (const auto reason = target.kv_cache->refuses(*plan.kv_cache))
      user_error("format {}: kv_cache: {}", target.name, *reason);
  }
  if (const auto warning = target.kv_cache->warning(*plan.kv_cache)) warnings.push_back(*warning);
}

/// Names of linears, which are the caller's.
using Modules = std::unordered_set<std::string_view>;

/// UserError for a tensor of one of these linears that is neither its weight nor its bias.
void check_nothing_beside(const Modules& linears, const std::map<std::string, TensorInfo>& tensors) {
  const auto check = [&](const std::string& tensor, size_t dot) {
    const std::string_view module = std::string_view(tensor).substr(0, dot),
                           last = std::string_view(tensor).substr(dot + 1);
    if (last == "weight" || last == "bias" || !linears.contains(module)) return;
    user_error(
        "tensor '{}': beside a linear that is to be quantised, only a weight and a bias are expected; "
        "remove it from the checkpoint or add '{}' to `ignore`",
        tensor, module);
  };
  std::string_view before;  // the modules around the last tensor, which those of the next one mostly are
  for (const auto& [name, info] : tensors) {
    size_t dot = name.rfind('.');
    if (dot == std::string::npos) continue;
    check(name, dot);
    dot = dot > 0 ? name.rfind('.', dot - 1) : std::string::npos;
    if (dot == std::string::npos || before == std::string_view(name).substr(0, dot)) continue;
    before = std::string_view(name).substr(0, dot);
    for (; dot != std::string::npos; dot = dot > 0 ? name.rfind('.', dot - 1) : std::string::npos)
      check(name, dot);
  }
}

/// UserError for a linear that the target can't hold. Returns their names, which are the caller's.
Modules check_linears(const std::vector<PlannedLinear>& quantized, const Target& target,
                      const std::map<std::string, TensorInfo>& tensors) {
  Modules modules;
  modules.reserve(quantized.size());
  for (const PlannedLinear& linear : quantized) {
    if (linear.scheme.floating()) {
      user_error(
          "{}: format {}: scheme type 'float' leaves weights to be rounded by the format, as gguf:... do",
          linear.name, target.name);
    }
    check_rotation(linear, "format " + target.name, target.rotations);
    check_head(linear, target);
    if (const auto reason = target.refuses(linear))
      user_error("{}: format {}: {}", linear.name, target.name, *reason);
    modules.insert(linear.name);
  }
  check_nothing_beside(modules, tensors);
  return modules;
}

bool has_kv_scales(const Plan& plan) { return plan.kv_cache && !plan.kv_cache->low_bit(); }

/// All that is refused, and whether there are open tensors, but no list of them.
OutputPlan check_output(const Plan& plan, const std::vector<PlannedLinear>& quantized,
                        const ModelGraph& graph, const Target& target,
                        const std::map<std::string, TensorInfo>& tensors) {
  check_linears(quantized, target, tensors);
  OutputPlan scales, output;
  output.target = &target;
  for (const Block& block : graph.blocks) {
    if (has_kv_scales(plan))
      plan_kv_cache(target, *plan.kv_cache, kv_cache_shape(graph.config), block, tensors, scales);
  }
  const PlannedLinear* before = nullptr;  // most are of its scheme and shape
  for (const PlannedLinear& linear : quantized) {
    if (before == nullptr || before->scheme != linear.scheme || before->out != linear.out ||
        before->in != linear.in)
      output.open_tensors =
          output.open_tensors || std::ranges::any_of(target.layout(linear), &PlannedTensor::open);
    before = &linear;
  }
  return output;
}

OutputPlan plan_output(const Plan& plan, const std::vector<PlannedLinear>& quantized, const ModelGraph& graph,
                       const Target& target, const std::map<std::string, TensorInfo>& tensors) {
  OutputPlan output;
  output.target = &target;
  const Modules modules = check_linears(quantized, target, tensors);
  const auto replaced = [&](std::string_view tensor) {
    constexpr std::string_view kWeight = ".weight";
    return tensor.ends_with(kWeight) && modules.contains(tensor.substr(0, tensor.size() - kWeight.size()));
  };
  // Tensors outside the blocks come first: they can be written before anything is computed.
  for (const std::string& name : names_outside_blocks(graph, tensors))
    if (!replaced(name)) output.tensors.push_back({name, tensors.at(name)});
  auto next = quantized.begin();  // in forward order, as the plan's linears
  const auto add_layouts = [&](std::span<const LinearPlan> linears) {
    for (const LinearPlan& linear : linears) {
      if (!linear.quantized) continue;
      for (PlannedTensor& tensor : target.layout(*next++)) output.tensors.push_back(std::move(tensor));
    }
  };
  for (size_t b = 0; b < graph.blocks.size(); ++b) {
    const std::string prefix = graph.blocks[b].prefix + ".";
    for (auto it = tensors.lower_bound(prefix); it != tensors.end() && it->first.starts_with(prefix); ++it) {
      if (!replaced(it->first)) output.tensors.push_back({it->first, it->second});
    }
    if (has_kv_scales(plan))
      plan_kv_cache(target, *plan.kv_cache, kv_cache_shape(graph.config), graph.blocks[b], tensors, output);
    add_layouts(plan.part(b));
  }
  if (plan.lm_head.quantized) add_layouts(plan.part(graph.blocks.size()));
  for (const PlannedTensor& tensor : output.tensors) {
    if (tensor.open) {
      output.open_tensors = true;
    } else {
      output.bytes += tensor.info.nbytes();
    }
  }
  return output;
}

/// What a format can't hold of all linears together, and what not all its consumers read.
void check_whole_model(const Plan& plan, const std::vector<PlannedLinear>& quantized, const ModelGraph& graph,
                       const Target& target, std::vector<std::string>& warnings) {
  if (target.refuses_model == nullptr && target.warnings == nullptr) return;
  const std::vector<std::string> floating = plan.floating(graph);
  if (target.refuses_model != nullptr) {
    if (const auto reason = target.refuses_model(quantized, floating))
      user_error("format {}: {}", target.name, *reason);
  }
  if (target.warnings == nullptr) return;
  for (std::string& warning : target.warnings(quantized, floating)) warnings.push_back(std::move(warning));
}

std::vector<GgufTypeChoice> type_choices(const Recipe& recipe) {
  std::vector<GgufTypeChoice> choices;
  for (const Recipe::TensorType& row : recipe.output.gguf_tensor_types)
    choices.push_back({pattern_expression(row.tensors), row.type, row.where});
  return choices;
}

}  // namespace

/// Kernels' rules (bits, groups, divisibility) are checked here, before anything is computed.
void add_layout(Plan& plan, const KernelLayout& layout) {
  LayoutPlan planned;
  planned.layout = &layout;
  for (const PlannedLinear& linear : plan.quantized()) {
    check_rotation(linear, "layout " + layout.name, false);
    if (const auto reason = layout.refuses(linear))
      user_error("{}: layout {}: {} ({})", linear.name, layout.name, *reason, layout.source);
    for (PlannedTensor& tensor : layout.tensors(linear)) {
      planned.bytes += tensor.info.nbytes();
      planned.tensors.push_back(std::move(tensor));
    }
  }
  plan.layouts.push_back(std::move(planned));
}

std::vector<ConsumerVerdict> judge_output(const Plan& plan, const OutputPlan& output,
                                          const ModelGraph& graph) {
  if (output.gguf) {
    std::vector<GgufTypeOf> types;
    for (const GgufOutputTensor& tensor : output.gguf->tensors)
      if (tensor.rule.expert == 0) types.push_back({tensor.rule.gguf, tensor.type});  // a stack is one tensor
    return judge_gguf(types);
  }
  const HeadCounts heads{graph.config.num_heads, graph.config.num_kv_heads, graph.config.head_dim};
  return judge_consumers(output.target->name, plan.quantized(), heads);
}

std::vector<std::string> consumer_lines(const Plan& plan, const OutputPlan& output, const ModelGraph& graph) {
  std::vector<std::string> lines;
  for (const ConsumerVerdict& verdict : judge_output(plan, output, graph))
    lines.push_back(verdict.describe());
  return lines;
}

std::string how_to_load(const Plan& plan, const OutputPlan& output, const ModelGraph& graph) {
  return ways_to_load(output.target->how_to_load, judge_output(plan, output, graph));
}

namespace {

/// Adds an output; `listed`: with its tensors and bytes. Those of GGUF files always have them.
void add_output(Plan& plan, const ModelGraph& graph, const Target& target,
                const std::map<std::string, TensorInfo>& tensors, const GgufSources& sources, bool listed) {
  plan.carried = carried_linears(plan, graph, tensors);
  std::vector<std::string> warnings;
  check_kv_cache(plan, target, warnings);
  const std::vector<PlannedLinear> quantized = plan.quantized();
  if (target.gguf != nullptr) {
    plan.outputs.push_back(plan_gguf_output(quantized, graph, target, tensors, sources));
    plan.outputs.back().warnings = plan.outputs.back().gguf->warnings;
    return;
  }
  plan.outputs.push_back((listed ? plan_output : check_output)(plan, quantized, graph, target, tensors));
  check_whole_model(plan, quantized, graph, target, warnings);
  plan.outputs.back().warnings = std::move(warnings);
}

/// Every output of the recipe. Returns the names of checkpoint formats.
std::vector<std::string> add_outputs(Plan& plan, const Recipe& recipe, const ModelGraph& graph,
                                     const std::map<std::string, TensorInfo>& tensors, bool listed) {
  std::vector<std::string> checkpoints;
  for (const std::string& format : recipe.output.formats) {
    if (const KernelLayout* layout = find_kernel_layout(format)) {
      add_layout(plan, *layout);
    } else {
      checkpoints.push_back(format);
      const bool importances = !recipe.calibration.none || !recipe.output.imatrix.empty();
      add_output(plan, graph, find_target(format), tensors,
                 {.weights = true, .importances = importances, .types = type_choices(recipe)}, listed);
    }
  }
  if (checkpoints.empty()) {
    user_error(
        "{}: output.formats: {} is a kernel layout, which goes beside a checkpoint and holds the quantised "
        "linears "
        "only; name a checkpoint format, too (compressed-tensors)",
        recipe.file, recipe.output.formats.front());
  }
  return checkpoints;
}

}  // namespace

void add_output(Plan& plan, const ModelGraph& graph, const Target& target,
                const std::map<std::string, TensorInfo>& tensors, const GgufSources& sources) {
  add_output(plan, graph, target, tensors, sources, /*listed=*/true);
}

void check_outputs(Plan& plan, const Recipe& recipe, const ModelGraph& graph,
                   const std::map<std::string, TensorInfo>& tensors) {
  add_outputs(plan, recipe, graph, tensors, /*listed=*/false);
}

void plan_outputs(Plan& plan, const Recipe& recipe, const ModelGraph& graph,
                  const std::map<std::string, TensorInfo>& tensors) {
  const std::vector<std::string> checkpoints = add_outputs(plan, recipe, graph, tensors, /*listed=*/true);
  if (checkpoints.size() == 1) return;
  for (size_t i = 0; i < checkpoints.size(); ++i) {
    std::string folder = checkpoints[i];
    std::ranges::replace(folder, ':', '-');  // gguf:Q4_K_M
    plan.outputs[i].subfolder = folder;
  }
}

}  // namespace lathe
