#include "recipes/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "algorithms/algorithm.h"
#include "lib/base/error.h"
#include "lib/model/cached_attention.h"
#include "lib/model/fused_linears.h"
#include "lib/model/weights_graph.h"
#include "recipes/algorithm_checks.h"
#include "recipes/fused_by_name.h"
#include "recipes/plan_outputs.h"

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

/// Does a format that the codes go to have no number for a zero point at the lowest code? Then no grid has
/// one, whatever else is written from it.
bool zeros_above_lowest(const Recipe& recipe) {
  return std::ranges::any_of(recipe.output.formats, [](const std::string& format) {
    return find_kernel_layout(format) == nullptr && find_target(format).zero_above_lowest;
  });
}

/// The head is a linear like others where it has a weight of its own.
void check_head(const Recipe& recipe, const Rule& rule, const Scheme& scheme, const Linear& head, bool tied) {
  const auto refuse = [&](const std::string& reason) {
    user_error("{}: the rule matches lm_head, {}; add lm_head to `ignore`", rule.where, reason);
  };
  if (head.out == 0) refuse("which is not known in a model of an unknown family");
  if (tied) {
    refuse(
        "whose weight is the embedding's (tie_word_embeddings): engines look tokens up in it, which they do "
        "in floating point (GGUF's types are for both: output.formats: gguf:...)");
  }
  if (scheme.hadamard > 0)
    refuse(fmt::format("whose input no engine rotates (transform {})", recipe.transforms.front().name));
}

LinearPlan plan_linear(const Recipe& recipe, const RecipeAlgorithms& algorithms, const Linear& linear,
                       bool tied) {
  LinearPlan plan;
  plan.linear = &linear;
  if (any_matches(recipe.ignore, linear)) {
    plan.reason = "ignored by the recipe";
    return plan;
  }
  for (size_t i = 0; i < recipe.rules.size(); ++i) {
    if (!any_matches(recipe.rules[i].targets, linear)) continue;
    plan.quantized = true;
    plan.rule = i;
    plan.scheme = recipe.rules[i].scheme;
    if (plan.scheme.has_integer_zeros()) plan.scheme.zero_above_lowest = zeros_above_lowest(recipe);
    plan.scheme.hadamard = recipe_rotation(recipe, algorithms);
    if (linear.role == LinearRole::lm_head) check_head(recipe, recipe.rules[i], plan.scheme, linear, tied);
    if (plan.scheme.hadamard > 0 && linear.in % plan.scheme.hadamard != 0) {
      user_error(
          "{}: transforms: hadamard: blocks of {} do not divide the {} input features of '{}'; use a smaller "
          "block, or leave the linear out with `ignore`",
          recipe.file, plan.scheme.hadamard, linear.in, linear.name);
    }
    if (recipe.rules[i].activations) plan.activations = recipe.rules[i].activations->scheme;
    if (const Solver* solver = algorithms.solvers[i].get()) {
      plan.group_index = solver->reorders_groups(plan.scheme);
      if (const auto reason = solver->refuses_groups(plan.scheme, weights_under_a_scale(plan.scheme, linear)))
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
  linears.push_back(&graph.lm_head());
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
          "tensor under {}, so one rule has to quantise them",
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
  if (!moves_scales(recipe)) return;
  std::set<std::string> quantized;
  for (const PlannedLinear& linear : plan.quantized()) quantized.insert(linear.name);
  for (const Block& block : graph.blocks) {
    for (const ScaleEdge& edge : block.edges) {
      if (!edge.closed.empty()) continue;
      const auto consumers = block.consumers(edge);
      if (std::ranges::any_of(consumers, [&](const Linear* l) { return quantized.contains(l->name); }))
        return;
    }
  }
  user_error(
      "{}: transforms: no scale can move into any of the linears that the rules quantise; leave out '{}'",
      recipe.file, recipe.transforms.front().name);
}

}  // namespace

PlannedLinear Plan::planned(const LinearPlan& plan) const {
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

std::vector<const LinearPlan*> Plan::linears() const {
  std::vector<const LinearPlan*> result;
  for (const auto& block : blocks) {
    for (const LinearPlan& plan : block) result.push_back(&plan);
  }
  if (lm_head.linear != nullptr) result.push_back(&lm_head);
  return result;
}

std::vector<PlannedLinear> Plan::quantized() const {
  std::vector<PlannedLinear> result;
  const std::vector<const LinearPlan*> all = linears();
  result.reserve(all.size());
  for (const LinearPlan* plan : all) {
    if (plan->quantized) result.push_back(planned(*plan));
  }
  return result;
}

std::vector<std::string> Plan::kept() const {
  std::vector<std::string> result;
  for (const LinearPlan* plan : linears()) {
    if (!plan->quantized) result.push_back(plan->linear->name);
  }
  return result;
}

std::vector<std::string> Plan::floating(const ModelGraph& graph) const {
  std::vector<std::string> names = kept();
  names.insert(names.end(), graph.untouched.begin(), graph.untouched.end());
  names.insert(names.end(), carried.begin(), carried.end());
  return names;
}

bool Plan::quantizes_any() const {
  const auto in = [](const auto& block) { return std::ranges::any_of(block, &LinearPlan::quantized); };
  return lm_head.quantized || std::ranges::any_of(blocks, in);
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

std::optional<double> OutputPlan::stored_bits(const PlannedLinear& linear) const {
  if (gguf || open_tensors) return std::nullopt;
  uint64_t stored = 0;
  for (const PlannedTensor& tensor : target->layout(linear)) stored += tensor.info.nbytes();
  return 8 * static_cast<double>(stored) / static_cast<double>(linear.out * linear.in);
}

double Plan::bits_per_weight(const OutputPlan& output) const {
  std::map<std::string, GgmlType> blocks;
  if (output.gguf) {
    for (const GgufOutputTensor& tensor : output.gguf->tensors) blocks[tensor.rule.linear] = tensor.type;
  }
  double bits = 0, weights = 0;
  for (const PlannedLinear& linear : quantized()) {
    const double count = static_cast<double>(linear.out) * static_cast<double>(linear.in);
    const auto type = blocks.find(linear.name);
    weights += count;
    bits += count *
            (type != blocks.end()
                 ? lathe::bits_per_weight(type->second)
                 : output.stored_bits(linear).value_or(linear.scheme.bits_per_weight(linear.out, linear.in)));
  }
  return bits / weights;
}

namespace {

/// Scales are measured, so a cache can't be had without data.
void check_kv_cache(const Recipe& recipe, const ModelGraph& graph) {
  if (!recipe.kv_cache) return;
  if (const auto reason = kv_cache_refuses(*recipe.kv_cache, kv_cache_shape(graph.config)))
    user_error("{}: kv_cache: {}", recipe.file, *reason);
  if (!recipe.calibration.none || !recipe.kv_cache->calibrated()) return;
  user_error(
      "{}: kv_cache: its scales are measured in calibration, and there is none; give `calibration.data`",
      recipe.file);
}

/// Inputs: measured on SmolLM2-135M's down_proj, in ours and in NVIDIA's code. Weights: on lathe-tiny's rows
/// of 768, and on random ones of 4096: the recipe's 2048 bins want far more values.
void warn_entropy(const Recipe& recipe, std::vector<std::string>& warnings) {
  const auto entropy = [](const Rule& rule) {
    return rule.activations && !rule.activations->scheme.dynamic &&
           rule.activations->observer.method == ActivationObserver::kl;
  };
  const auto weights = [](const Rule& rule) {
    const auto range = rule.solver.options.all().find("range");
    return range != rule.solver.options.all().end() && range->second == OptionValue(std::string("kl"));
  };
  if (const auto rule = std::ranges::find_if(recipe.rules, weights); rule != recipe.rules.end()) {
    warnings.push_back(
        rule->where +
        ": range kl looks at how a group's weights are distributed, not at how large the errors "
        "are: at 8 bits many times the loss of range minmax; take mse or weighted");
  }
  const auto rule = std::find_if(recipe.rules.begin(), recipe.rules.end(), entropy);
  if (rule == recipe.rules.end()) return;
  warnings.push_back(
      rule->where +
      ": observer kl clips large values that are rare, which carry the signal in inputs of down_proj "
      "(several "
      "times the squared error of observer mse there); take mse unless a consumer's recipe asks for kl");
}

/// The recipe's choice; else the model's floating type, or FP32 where all that is written has it: linears on
/// floating-point grids for formats that store their scales so.
DType scale_type_for(const Recipe& recipe, const ModelGraph& graph) {
  if (recipe.output.scale_dtype) return *recipe.output.scale_dtype;
  const bool floats =
      std::ranges::all_of(recipe.rules, [](const Rule& rule) { return rule.scheme.float_grid() != nullptr; });
  const bool full = std::ranges::all_of(recipe.output.formats, [](const std::string& format) {
    return find_kernel_layout(format) == nullptr && find_target(format).full_scales;
  });
  if (floats && full) return DType::F32;
  return graph.config.dtype == DType::F32 ? DType::F16 : graph.config.dtype;
}

/// about_experts: what of them not every consumer of a folder reads.
Plan decide_linears(const Recipe& recipe, const ModelGraph& graph, std::vector<std::string>& about_experts) {
  check_solvers(recipe);
  check_kv_cache(recipe, graph);
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
  const bool tied = graph.config.tie_word_embeddings;
  for (const Block& block : graph.blocks) {
    auto& linears = plan.blocks.emplace_back();
    for (const Linear& linear : block.linears)
      linears.push_back(plan_linear(recipe, algorithms, linear, tied));
    check_fused(block, linears);
  }
  if (!is_known_family(graph.config.model_type)) check_fused_by_name(plan);
  plan.lm_head = plan_linear(recipe, algorithms, graph.lm_head(), tied);
  plan.kv_cache = recipe.kv_cache;
  if (!plan.quantizes_any()) user_error("{}: the recipe quantises no linear of this model", recipe.file);
  check_words_decide(recipe, plan);
  check_transforms(recipe, graph, plan);
  about_experts = check_experts(plan);
  warn_entropy(recipe, plan.warnings);
  check_streams(recipe, algorithms);
  for (std::string& warning : check_range_offers(recipe, algorithms))
    plan.warnings.push_back(std::move(warning));
  return plan;
}

}  // namespace

Plan plan_linears(const Recipe& recipe, const ModelGraph& graph) {
  std::vector<std::string> about_experts;
  return decide_linears(recipe, graph, about_experts);
}

Plan make_plan(const Recipe& recipe, const ModelGraph& graph,
               const std::map<std::string, TensorInfo>& tensors) {
  std::vector<std::string> about_experts;
  Plan plan = decide_linears(recipe, graph, about_experts);
  for (const auto& [name, info] : tensors) plan.input_bytes += info.nbytes();
  plan_outputs(plan, recipe, graph, tensors);
  for (OutputPlan& output : plan.outputs) {
    if (!output.gguf)
      output.warnings.insert(output.warnings.end(), about_experts.begin(), about_experts.end());
  }
  return plan;
}

}  // namespace lathe
