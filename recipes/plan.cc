#include "recipes/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "algorithms/algorithm.h"
#include "formats/consumers/consumers.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"
#include "lib/model/forward.h"
#include "recipes/algorithm_checks.h"

namespace lathe {
namespace {

bool any_matches(const std::vector<std::string>& targets, const Linear& linear) {
  return std::any_of(targets.begin(), targets.end(),
                     [&](const std::string& target) { return target_matches(target, linear); });
}

/// The fewest weights that share a scale.
int64_t weights_under_a_scale(const Scheme& scheme, const Linear& linear) {
  const int64_t length = scheme.group_length(linear.out, linear.in);
  if (scheme.per_tensor()) return length * linear.out;
  if (!scheme.shares_rows()) return length;
  const int64_t left = linear.out % scheme.rows;  // rows of the last block, if it is a smaller one
  return length * (left > 0 ? left : scheme.rows);
}

LinearPlan plan_linear(const Recipe& recipe, const RecipeAlgorithms& algorithms, const Linear& linear) {
  LinearPlan plan;
  plan.linear = &linear;
  if (any_matches(recipe.ignore, linear)) {
    plan.reason = "ignored by the recipe";
    return plan;
  }
  for (size_t i = 0; i < recipe.rules.size(); ++i) {
    if (!any_matches(recipe.rules[i].targets, linear)) continue;
    if (linear.role == LinearRole::lm_head) {
      user_error(
          "{}: the rule matches lm_head, whose quantisation is not supported yet; add lm_head to `ignore`",
          recipe.rules[i].where);
    }
    plan.quantized = true;
    plan.rule = i;
    plan.scheme = recipe.rules[i].scheme;
    if (recipe.rules[i].activations) plan.activations = recipe.rules[i].activations->scheme;
    if (const Solver* solver = algorithms.solvers[i].get()) {
      plan.group_index = solver->reorders_groups(plan.scheme);
      if (const auto reason = solver->refuses_groups(weights_under_a_scale(plan.scheme, linear)))
        user_error("{}: {}: {}", recipe.rules[i].where, linear.name, *reason);
    }
    return plan;
  }
  plan.reason = "no rule matches it";
  return plan;
}

/// A solver that can't work on its rule's grid is refused before anything is read.
void check_solvers(const Recipe& recipe) {
  for (const Rule& rule : recipe.rules) {
    const auto row = std::ranges::find(solvers(), rule.solver.name, &SolverEntry::name);
    LATHE_ASSERT(row != solvers().end(), "solver '{}'", rule.solver.name);
    if (const auto reason = row->refuses(rule.scheme))
      user_error("{}: solver {}: {}", rule.where, rule.solver.name, *reason);
    if (rule.scheme.axis == 0 && !recipe.transforms.empty()) {
      user_error(
          "{}: axis 0: rows share scales, which no transform can fold into; use axis 1, or no transforms",
          rule.where);
    }
  }
}

/// Every word of the recipe must have done something: a pattern that matches nothing is a slip.
void check_words_match(const Recipe& recipe, const ModelGraph& graph) {
  std::vector<const Linear*> linears;
  for (const Block& block : graph.blocks) {
    for (const Linear& linear : block.linears) linears.push_back(&linear);
  }
  linears.push_back(&graph.lm_head);
  const auto check = [&](const std::string& target, const std::string& where) {
    const bool matched = std::any_of(linears.begin(), linears.end(),
                                     [&](const Linear* linear) { return target_matches(target, *linear); });
    if (!matched) {
      user_error("{}: '{}' matches no linear of the model (names look like '{}')", where, target,
                 linears.front()->name);
    }
  };
  for (const Rule& rule : recipe.rules) {
    for (const std::string& target : rule.targets) check(target, rule.where);
  }
  for (const std::string& target : recipe.ignore) check(target, recipe.file + ": ignore");
}

/// Linears that a consumer fuses: those of one input, and one kind of weight of all experts, which become one
/// stacked weight. Router and shared expert's gate stay apart from what reads the same input.
std::string fused_with(const Linear& linear) {
  if (linear.role == LinearRole::router || linear.role == LinearRole::shared_expert_gate) return linear.name;
  return fmt::format("{}{}", name_of(linear.input.slot), linear.input.expert ? " of experts" : "");
}

/// Half-fused groups fail to load or load wrong (formats.md, 0.3).
void check_fused(const Block& block, const std::vector<LinearPlan>& linears) {
  std::map<std::string, const LinearPlan*> first;
  for (const LinearPlan& plan : linears) {
    const auto [entry, inserted] = first.emplace(fused_with(*plan.linear), &plan);
    const LinearPlan& other = *entry->second;
    if (!inserted && other.same_scheme(plan) && plan.quantized && plan.rule != other.rule &&
        (plan.scheme.per_tensor() || plan.scheme.has_global_scale())) {
      user_error(
          "{}: '{}' and '{}' are quantised by two rules; linears that read one input share the scale of the "
          "tensor "
          "under {}, so one rule has to quantise them",
          block.prefix, other.linear->name, plan.linear->name, plan.scheme.describe());
    }
    if (inserted || other.same_scheme(plan)) continue;
    const auto text = [](const LinearPlan& p) {
      return p.quantized ? p.describe() : std::string("floating point");
    };
    user_error(
        "{}: '{}' would be {} but '{}' {}; linears that read one input, and the experts of a block, are "
        "fused "
        "by vLLM and SGLang and need one scheme",
        block.prefix, other.linear->name, text(other), plan.linear->name, text(plan));
  }
}

/// Consumers stack a model's experts, and read all of them by one scheme. Those in floating point beside
/// quantised ones or other quantised linears are legal, but not read by everyone.
std::vector<std::string> check_experts(const Plan& plan) {
  const LinearPlan *quantized = nullptr, *kept = nullptr;
  for (const auto& block : plan.blocks) {
    for (const LinearPlan& linear : block) {
      if (!linear.linear->input.expert) continue;
      if (!linear.quantized) {
        if (kept == nullptr) kept = &linear;
      } else if (quantized == nullptr) {
        quantized = &linear;
      } else if (!linear.same_scheme(*quantized)) {
        user_error(
            "'{}' would be {} but '{}' {}; transformers and vLLM read all experts of a model by one scheme",
            quantized->linear->name, quantized->describe(), linear.linear->name, linear.describe());
      }
    }
  }
  if (quantized != nullptr && quantized->activations) {
    return {
        fmt::format("experts with quantised activations ('{}'): vLLM reads such an artefact, but "
                    "transformers (5.17) reads "
                    "experts with weights alone",
                    quantized->linear->name)};
  }
  if (kept == nullptr) return {};
  return {fmt::format(
      "experts stay in floating point beside quantised linears ('{}'): vLLM reads such an artefact, but "
      "transformers (5.17) looks for quantised experts only and leaves these at random values",
      kept->linear->name)};
}

/// A transform acts where a scale can move into a quantised linear; none in the whole model is a slip.
void check_transforms(const Recipe& recipe, const ModelGraph& graph, const Plan& plan) {
  if (recipe.transforms.empty()) return;
  std::set<std::string> quantized;
  for (const PlannedLinear& linear : plan.quantized()) quantized.insert(linear.name);
  for (const Block& block : graph.blocks) {
    for (const ScaleEdge& edge : block.edges) {
      const auto consumers = block.consumers(edge);
      if (std::ranges::any_of(consumers, [&](const Linear* l) { return quantized.contains(l->name); }))
        return;
    }
  }
  user_error(
      "{}: transforms: no scale can move into any of the linears that the rules quantise; leave out '{}'",
      recipe.file, recipe.transforms.front().name);
}

PlannedLinear planned(const LinearPlan& plan, DType scale_dtype) {
  const Linear& linear = *plan.linear;
  return {linear.name,
          linear.out,
          linear.in,
          plan.scheme,
          plan.scheme.scale_type(scale_dtype),
          linear.role,
          linear.input.expert.has_value(),
          plan.group_index,
          linear.bias,
          /*outliers=*/0,
          plan.activations};
}

OutputPlan plan_gguf_output(const Plan& plan, const ModelGraph& graph, const Target& target,
                            const std::map<std::string, TensorInfo>& tensors, const GgufSources& sources) {
  GgufWeights weights{.solved = {}, .importances = sources.importances, .codes_only = !sources.weights};
  for (const PlannedLinear& linear : plan.quantized()) {
    if (linear.activations) {
      user_error("{}: format {}: its input would be quantised, which llama.cpp does by rules of its own",
                 linear.name, target.name);
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
void plan_kv_cache(const Target& target, const Block& block, const std::map<std::string, TensorInfo>& tensors,
                   OutputPlan& output) {
  const std::string attention = attention_module(block);
  if (attention.empty()) return;
  for (PlannedTensor& scale : target.kv_cache->layout(attention)) {
    if (tensors.contains(scale.name))
      user_error("tensor '{}': stands in the checkpoint, and so would the scale that kv_cache gives",
                 scale.name);
    output.tensors.push_back(std::move(scale));
  }
}

void check_kv_cache(const Plan& plan, const Target& target, std::vector<std::string>& warnings) {
  if (!plan.kv_cache) return;
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

OutputPlan plan_output(const Plan& plan, const ModelGraph& graph, const Target& target,
                       const std::map<std::string, TensorInfo>& tensors) {
  OutputPlan output;
  output.target = &target;
  std::set<std::string> replaced;
  for (const PlannedLinear& linear : plan.quantized()) {
    if (linear.scheme.floating()) {
      user_error(
          "{}: format {}: scheme type 'float' leaves weights to be rounded by the format, as gguf:... do",
          linear.name, target.name);
    }
    if (const auto reason = target.refuses(linear))
      user_error("{}: format {}: {}", linear.name, target.name, *reason);
    replaced.insert(linear.name + ".weight");
    const std::string prefix = linear.name + ".";
    for (auto it = tensors.lower_bound(prefix); it != tensors.end() && it->first.starts_with(prefix); ++it) {
      if (it->first == prefix + "weight" || it->first == prefix + "bias") continue;
      user_error(
          "tensor '{}': beside a linear that is to be quantised, only a weight and a bias are expected; "
          "remove it "
          "from the checkpoint or add '{}' to `ignore`",
          it->first, linear.name);
    }
  }
  // Tensors outside the blocks come first: they can be written before anything is computed.
  for (const std::string& name : names_outside_blocks(graph, tensors))
    output.tensors.push_back({name, tensors.at(name)});
  for (size_t b = 0; b < graph.blocks.size(); ++b) {
    const std::string prefix = graph.blocks[b].prefix + ".";
    for (auto it = tensors.lower_bound(prefix); it != tensors.end() && it->first.starts_with(prefix); ++it) {
      if (!replaced.contains(it->first)) output.tensors.push_back({it->first, it->second});
    }
    if (plan.kv_cache) plan_kv_cache(target, graph.blocks[b], tensors, output);
    for (const LinearPlan& linear : plan.blocks[b]) {
      if (!linear.quantized) continue;
      for (PlannedTensor& tensor : target.layout(planned(linear, plan.scale_dtype))) {
        output.tensors.push_back(std::move(tensor));
      }
    }
  }
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
void check_whole_model(const Plan& plan, const ModelGraph& graph, const Target& target,
                       std::vector<std::string>& warnings) {
  const std::vector<PlannedLinear> quantized = plan.quantized();
  const std::vector<std::string> floating = plan.floating(graph);
  if (target.refuses_model != nullptr) {
    if (const auto reason = target.refuses_model(quantized, floating))
      user_error("format {}: {}", target.name, *reason);
  }
  if (target.warnings == nullptr) return;
  for (std::string& warning : target.warnings(quantized, floating)) warnings.push_back(std::move(warning));
}

}  // namespace

/// Kernels' rules (bits, groups, divisibility) are checked here, before anything is computed.
void add_layout(Plan& plan, const KernelLayout& layout) {
  LayoutPlan planned;
  planned.layout = &layout;
  for (const PlannedLinear& linear : plan.quantized()) {
    if (const auto reason = layout.refuses(linear))
      user_error("{}: layout {}: {} ({})", linear.name, layout.name, *reason, layout.source);
    for (PlannedTensor& tensor : layout.tensors(linear)) {
      planned.bytes += tensor.info.nbytes();
      planned.tensors.push_back(std::move(tensor));
    }
  }
  plan.layouts.push_back(std::move(planned));
}

std::vector<std::string> consumer_lines(const Plan& plan, const OutputPlan& output, const ModelGraph& graph) {
  std::string method = output.target->name == "gptq-v2" ? "gptq" : output.target->name;
  if (output.gguf) method = "gguf";
  std::vector<std::string> lines;
  const HeadCounts heads{graph.config.num_heads, graph.config.num_kv_heads, graph.config.head_dim};
  for (const ConsumerVerdict& verdict : judge_consumers(method, plan.quantized(), heads))
    lines.push_back(verdict.describe());
  return lines;
}

std::vector<PlannedLinear> Plan::quantized() const {
  std::vector<PlannedLinear> result;
  for (const auto& block : blocks) {
    for (const LinearPlan& plan : block) {
      if (plan.quantized) result.push_back(planned(plan, scale_dtype));
    }
  }
  return result;
}

std::vector<std::string> Plan::kept() const {
  std::vector<std::string> result;
  for (const auto& block : blocks) {
    for (const LinearPlan& plan : block) {
      if (!plan.quantized) result.push_back(plan.linear->name);
    }
  }
  if (!lm_head.quantized) result.push_back(lm_head.linear->name);
  return result;
}

std::vector<std::string> Plan::floating(const ModelGraph& graph) const {
  std::vector<std::string> names = kept();
  names.insert(names.end(), graph.untouched.begin(), graph.untouched.end());
  names.insert(names.end(), carried.begin(), carried.end());
  return names;
}

bool Plan::rounds_weights() const {
  return std::ranges::any_of(outputs, [](const OutputPlan& output) { return output.gguf.has_value(); });
}

std::vector<std::string> Plan::output_warnings() const {
  std::vector<std::string> all;
  for (const OutputPlan& output : outputs) {
    for (const std::string& warning : output.warnings) {
      if (std::ranges::find(all, warning) == all.end()) all.push_back(warning);
    }
  }
  return all;
}

double Plan::bits_per_weight() const {
  std::map<std::string, GgmlType> blocks;
  if (!outputs.empty() && outputs.front().gguf) {
    for (const GgufOutputTensor& tensor : outputs.front().gguf->tensors)
      blocks[tensor.rule.linear] = tensor.type;
  }
  double bits = 0, weights = 0;
  for (const PlannedLinear& linear : quantized()) {
    const double count = static_cast<double>(linear.out) * static_cast<double>(linear.in);
    const auto type = blocks.find(linear.name);
    weights += count;
    bits += count * (type == blocks.end() ? linear.scheme.bits_per_weight(linear.out, linear.in)
                                          : lathe::bits_per_weight(type->second));
  }
  return bits / weights;
}

void add_output(Plan& plan, const ModelGraph& graph, const Target& target,
                const std::map<std::string, TensorInfo>& tensors, const GgufSources& sources) {
  plan.carried = carried_linears(plan, graph, tensors);
  std::vector<std::string> warnings;
  check_kv_cache(plan, target, warnings);
  if (target.gguf != nullptr) {
    plan.outputs.push_back(plan_gguf_output(plan, graph, target, tensors, sources));
    plan.outputs.back().warnings = plan.outputs.back().gguf->warnings;
    return;
  }
  plan.outputs.push_back(plan_output(plan, graph, target, tensors));
  check_whole_model(plan, graph, target, warnings);
  plan.outputs.back().warnings = std::move(warnings);
}

namespace {

/// Scales are measured, so a cache can't be had without data.
void check_kv_cache_data(const Recipe& recipe) {
  if (!recipe.kv_cache || !recipe.calibration.none) return;
  user_error(
      "{}: kv_cache: its scales are measured in calibration, and there is none; give `calibration.data`",
      recipe.file);
}

/// Checkpoints straight into the output folder or, where there are several, in a folder each; layouts beside.
void plan_outputs(Plan& plan, const Recipe& recipe, const ModelGraph& graph,
                  const std::map<std::string, TensorInfo>& tensors) {
  std::vector<std::string> checkpoints;
  for (const std::string& format : recipe.output.formats) {
    if (const KernelLayout* layout = find_kernel_layout(format)) {
      add_layout(plan, *layout);
    } else {
      checkpoints.push_back(format);
      const bool importances = !recipe.calibration.none || !recipe.output.imatrix.empty();
      add_output(plan, graph, find_target(format), tensors, {.weights = true, .importances = importances});
    }
  }
  if (checkpoints.empty()) {
    user_error(
        "{}: output.formats: {} is a kernel layout, which goes beside a checkpoint and holds the quantised "
        "linears "
        "only; name a checkpoint format, too (compressed-tensors)",
        recipe.file, recipe.output.formats.front());
  }
  if (checkpoints.size() == 1) return;
  for (size_t i = 0; i < checkpoints.size(); ++i) {
    std::string folder = checkpoints[i];
    std::ranges::replace(folder, ':', '-');  // gguf:Q4_K_M
    plan.outputs[i].subfolder = folder;
  }
}

/// Measured on SmolLM2-135M's inputs of down_proj, in ours and in NVIDIA's code.
void warn_entropy(const Recipe& recipe, std::vector<std::string>& warnings) {
  const auto entropy = [](const Rule& rule) {
    return rule.activations && !rule.activations->scheme.dynamic &&
           rule.activations->observer.method == ActivationObserver::kl;
  };
  const auto rule = std::find_if(recipe.rules.begin(), recipe.rules.end(), entropy);
  if (rule == recipe.rules.end()) return;
  warnings.push_back(
      rule->where +
      ": observer kl clips large values that are rare, which carry the signal in inputs of down_proj "
      "(several "
      "times the squared error of observer mse there); take mse unless a consumer's recipe asks for kl");
}

}  // namespace

namespace {

/// The model's floating type, or FP32 where all that is written has it: linears on floating-point grids for
/// formats that store their scales so.
DType scale_type_for(const Recipe& recipe, const ModelGraph& graph) {
  const bool floats =
      std::ranges::all_of(recipe.rules, [](const Rule& rule) { return rule.scheme.float_grid() != nullptr; });
  const bool full = std::ranges::all_of(recipe.output.formats, [](const std::string& format) {
    return find_kernel_layout(format) == nullptr && find_target(format).full_scales;
  });
  if (floats && full) return DType::F32;
  return graph.config.dtype == DType::F32 ? DType::F16 : graph.config.dtype;
}

}  // namespace

Plan make_plan(const Recipe& recipe, const ModelGraph& graph,
               const std::map<std::string, TensorInfo>& tensors) {
  check_solvers(recipe);
  check_kv_cache_data(recipe);
  if (!recipe.output.imatrix.empty() && !recipe.transforms.empty()) {
    user_error(
        "{}: output.imatrix: importances that were measured without transform {} are none with it; leave out "
        "one of them",
        recipe.file, recipe.transforms.front().name);
  }
  check_words_match(recipe, graph);
  const RecipeAlgorithms algorithms = recipe_algorithms(recipe);
  Plan plan;
  plan.scale_dtype = scale_type_for(recipe, graph);
  for (const Block& block : graph.blocks) {
    auto& linears = plan.blocks.emplace_back();
    for (const Linear& linear : block.linears) linears.push_back(plan_linear(recipe, algorithms, linear));
    check_fused(block, linears);
  }
  plan.lm_head = plan_linear(recipe, algorithms, graph.lm_head);
  plan.kv_cache = recipe.kv_cache;
  if (plan.quantized().empty()) user_error("{}: the recipe quantises no linear of this model", recipe.file);
  check_words_decide(recipe, plan);
  check_transforms(recipe, graph, plan);
  const std::vector<std::string> about_experts = check_experts(plan);
  warn_entropy(recipe, plan.warnings);
  for (std::string& warning : check_range_offers(recipe, algorithms))
    plan.warnings.push_back(std::move(warning));
  for (const auto& [name, info] : tensors) plan.input_bytes += info.nbytes();
  plan_outputs(plan, recipe, graph, tensors);
  for (OutputPlan& output : plan.outputs) {
    if (!output.gguf)
      output.warnings.insert(output.warnings.end(), about_experts.begin(), about_experts.end());
  }
  return plan;
}

namespace {

std::string describe_experts(const ExpertsConfig& experts, const ExpertPolicy& policy) {
  const auto sparse = std::ranges::count(experts.layers, true);
  const char* fallback =
      policy.fallback == ExpertFallback::all_tokens ? "measured on all tokens" : "rounded without statistics";
  return fmt::format(
      "experts    {} in each of {} blocks, {} for a token; one that fewer than {} tokens reach is {} ({})\n",
      experts.count, sparse, experts.per_token, policy.min_tokens, fallback, name_of(policy.fallback));
}

/// The grids of a rule's weights and inputs, and how a static one of inputs is found.
std::string describe_rule(const Rule& rule) {
  if (!rule.activations) return rule.scheme.describe();
  const std::string text = with_input(rule.scheme.describe(), rule.activations->scheme);
  if (!rule.activations->scheme.calibrated()) return text;
  return fmt::format("{} ({})", text, name_of(rule.activations->observer.method));
}

std::string describe_calibration(const Recipe& recipe, const ModelGraph& graph) {
  const Recipe::Calibration& calibration = recipe.calibration;
  std::string text = fmt::format("calibrate  {} samples of {}{} tokens, seed {}\n", calibration.samples,
                                 calibration.packing == Packing::document ? "up to " : "",
                                 calibration.seq_len, calibration.seed);
  text += fmt::format("propagate  {}: a block is calibrated on what the {} blocks before it give\n",
                      name_of(calibration.propagate),
                      calibration.propagate == Propagate::quantised ? "quantised" : "floating-point");
  if (graph.config.experts) text += describe_experts(*graph.config.experts, calibration.experts);
  return text;
}

}  // namespace

std::string describe_plan(const Plan& plan, const Recipe& recipe, const ModelGraph& graph) {
  const std::vector<PlannedLinear> quantized = plan.quantized();
  double weights = 0;
  for (const PlannedLinear& linear : quantized)
    weights += static_cast<double>(linear.out) * static_cast<double>(linear.in);
  std::string text = fmt::format("model      {} ({} blocks, hidden {}, {})\n", recipe.model.string(),
                                 graph.blocks.size(), graph.config.hidden_size, graph.config.model_type);
  if (graph.config.hidden_size == 0) {
    text = fmt::format("model      {} ({} matrices of an unknown family, {})\n", recipe.model.string(),
                       graph.blocks.size(), graph.config.model_type);
  }
  for (size_t i = 0; i < recipe.rules.size(); ++i) {
    size_t count = 0;
    for (const auto& block : plan.blocks) {
      count += static_cast<size_t>(std::count_if(
          block.begin(), block.end(), [&](const LinearPlan& p) { return p.quantized && p.rule == i; }));
    }
    const Rule& rule = recipe.rules[i];
    text += fmt::format("rule {}     {} -> {} linears, {}, solver {}\n", i, join_words(rule.targets), count,
                        describe_rule(rule), rule.solver.name);
  }
  for (const AlgorithmChoice& transform : recipe.transforms) {
    text += fmt::format("transform  {} over {} edges a block\n", transform.name,
                        graph.blocks.front().edges.size());
  }
  std::map<std::string, std::vector<std::string>> reasons;
  for (const auto& block : plan.blocks) {
    for (const LinearPlan& p : block) {
      if (!p.quantized) reasons[p.reason].push_back(p.linear->name);
    }
  }
  if (!plan.lm_head.quantized) reasons[plan.lm_head.reason].push_back(plan.lm_head.linear->name);
  for (const auto& [reason, names] : reasons) {
    text += fmt::format("kept       {}{} ({})\n", names.front(),
                        names.size() > 1 ? fmt::format(" and {} more", names.size() - 1) : "", reason);
  }
  if (plan.kv_cache)
    text +=
        fmt::format("kv cache   {}, scales of each layer from the calibration\n", plan.kv_cache->describe());
  if (recipe.calibration.none) {
    text += "calibrate  no data: each weight is quantised by itself, one at a time\n";
  } else {
    text += describe_calibration(recipe, graph);
  }
  text += fmt::format("weights    {:.0f} quantised at {:.3f} bits each with scales\n", weights,
                      plan.bits_per_weight());
  for (const OutputPlan& output : plan.outputs) {
    text +=
        fmt::format("output     {}: {} -> {}{}\n", output.target->name, human_bytes(plan.input_bytes),
                    human_bytes(output.bytes), output.open_tensors ? " and 4 bytes for each outlier" : "");
  }
  for (const OutputPlan& output : plan.outputs) {
    for (const std::string& line : consumer_lines(plan, output, graph))
      text += fmt::format("consumer   {}\n", line);
  }
  for (const LayoutPlan& layout : plan.layouts) {
    text += fmt::format("layout     {}: {} for {} ({})\n", layout.layout->name, human_bytes(layout.bytes),
                        layout.layout->kernel, layout.layout->gpus);
  }
  return text;
}

}  // namespace lathe
