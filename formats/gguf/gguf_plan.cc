#include "formats/gguf/gguf_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <regex>
#include <set>

#include "formats/gguf/model_keys.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

GgmlType plain_type(DType dtype) {
  if (dtype == DType::F32) return GgmlType::F32;
  return dtype == DType::BF16 ? GgmlType::BF16 : GgmlType::F16;
}

/// Are the type's blocks wide enough for the scheme's codes less zero points, whatever these are? (Scales are
/// known when they are solved: kernels::exact_ggml_blocks().) Types with a minimum hold symmetric codes,
/// whose minimum is a half where the scale is; of asymmetric ones only those with scale * zero point a half,
/// which is luck: no plan for weights that could be rounded, but worth a try where codes are all that there
/// is.
bool holds_codes(GgmlType type, const Scheme& scheme, int64_t columns, bool codes_only) {
  if (type == GgmlType::MXFP4) return scheme.type == "mxfp4" && scheme.divides(columns);
  if (type == GgmlType::Q8_0 && scheme.type == kMxInt8.name) return scheme.divides(columns);
  const bool minimum = type == GgmlType::Q4_1 || type == GgmlType::Q5_1;
  const bool grid = type == GgmlType::Q4_0 || type == GgmlType::Q5_0 || type == GgmlType::Q8_0 ||
                    (minimum && (scheme.symmetric || codes_only));
  const bool plain = scheme.type == "int" && scheme.axis == 1 && !scheme.scale_grid && !scheme.real_zero;
  if (!grid || !plain || !scheme.divides(columns)) return false;
  if (scheme.group_length(columns) % traits(type).length != 0) return false;
  const int bits = scheme.bits + (scheme.symmetric || minimum ? 0 : 1);
  return 1 << bits <= traits(type).levels;
}

/// One model, one mix.
struct Chooser {
  const GgufMix& mix;
  const ModelGraph& graph;
  const GgufWeights& weights;
  MixModel model;
  std::map<std::string, std::vector<std::string>> fallbacks;  // "Q4_K -> Q5_0": tensors
  std::vector<std::string> rounded;                           // linears with codes that don't fit
  struct NamedType {
    const GgufTypeChoice* choice;
    std::regex tensors;
    bool decides = false;
  };
  std::vector<NamedType> named;  // as GgufWeights::types

  Chooser(const GgufMix& mix, const ModelGraph& graph, const GgufWeights& weights)
      : mix(mix), graph(graph), weights(weights) {
    const ModelConfig& config = graph.config;
    model = {.layers = config.num_layers,
             .heads = config.num_heads,
             .kv_heads = config.num_kv_heads,
             .experts = config.experts ? config.experts->count : 0,
             .tied_output = config.tie_word_embeddings,
             .importances = weights.importances};
    for (const GgufTypeChoice& choice : weights.types)
      named.push_back({&choice, std::regex(choice.tensors, std::regex::ECMAScript)});
  }

  /// The type that somebody chose for it.
  std::optional<GgmlType> by_name(const GgufTensorRule& rule) {
    for (NamedType& name : named) {
      if (!std::regex_search(rule.gguf, name.tensors)) continue;
      const GgmlTraits& type = traits(name.choice->type);
      if (!divides(type.type, rule.shape[1])) {
        user_error("{}: '{}': its rows of {} values can't be cut into {} blocks of {}", name.choice->where,
                   rule.gguf, rule.shape[1], type.name, type.length);
      }
      name.decides = true;
      return type.type;
    }
    return std::nullopt;
  }

  void check_names_decide() const {
    for (const NamedType& name : named) {
      if (name.decides) continue;
      user_error(
          "{}: '/{}/' decides about no matrix of the file: it matches none, or those alone that an earlier "
          "one has taken (names look like 'blk.0.attn_q.weight')",
          name.choice->where, name.choice->tensors);
    }
  }

  GgufOutputTensor by_mix(const GgufTensorRule& rule) {
    const MixTensor tensor{.name = rule.gguf,
                           .layer = rule.layer,
                           .rows = rule.is_matrix() ? rule.shape[0] : 0,
                           .columns = rule.shape.back(),
                           .experts = std::max<int64_t>(rule.experts, 1)};
    const std::string name(mix.name);
    const GgmlType wanted = wanted_type(name, model, tensor), type = fitting_type(wanted, tensor.columns);
    if (wanted == type) return {rule, type};
    if (rule.expert == 0)
      fallbacks[fmt::format("{} -> {}", traits(wanted).name, traits(type).name)].push_back(rule.gguf);
    return {.rule = rule, .type = type, .wanted = wanted};
  }

  /// Routers: always F32.
  GgmlType plain(const GgufTensorRule& rule) {
    const auto solved = weights.solved.find(rule.linear);
    if (solved == weights.solved.end()) return GgmlType::F32;
    const Scheme& scheme = solved->second.scheme;
    if (weights.codes_only) {
      user_error("format gguf:{}: {}: its codes ({}) have no place: llama.cpp's routers are F32", mix.name,
                 rule.linear, scheme.describe());
    }
    if (!scheme.floating()) rounded.push_back(rule.linear);
    return GgmlType::F32;
  }

  GgufOutputTensor choose(const GgufTensorRule& rule) {
    if (!rule.is_matrix()) return {rule, GgmlType::F32};
    if (rule.plain) return {rule, plain(rule)};
    const std::optional<GgmlType> chosen = by_name(rule);
    const auto solved = weights.solved.find(rule.linear);
    if (solved != weights.solved.end()) {
      const auto& [scheme, group_index] = solved->second;
      const GgmlType base = chosen.value_or(mix.base);
      if (!group_index && holds_codes(base, scheme, rule.shape[1], weights.codes_only))
        return {rule, base, true};
      if (weights.codes_only) {
        user_error(
            "format gguf:{}: {}: its codes ({}) are not those of {} blocks, and nothing is rounded anew",
            mix.name, rule.linear, scheme.describe(), traits(base).name);
      }
      if (!scheme.floating()) rounded.push_back(rule.linear);
      return chosen ? GgufOutputTensor{rule, *chosen} : by_mix(rule);
    }
    return chosen ? GgufOutputTensor{rule, *chosen} : unsolved(rule);
  }

  /// A linear that stays as it is, an embedding, the head.
  GgufOutputTensor unsolved(const GgufTensorRule& rule) {
    const bool kept = weights.codes_only || !rule.linear.empty();
    return kept ? GgufOutputTensor{rule, plain_type(graph.config.dtype)} : by_mix(rule);
  }
};

/// The matrices of a stack are one tensor of the file, so of one type.
void check_stacks(const GgufOutput& output) {
  std::map<std::string, const GgufOutputTensor*> first;
  for (const GgufOutputTensor& tensor : output.tensors) {
    const GgufOutputTensor& other = *first.emplace(tensor.rule.gguf, &tensor).first->second;
    if (other.type == tensor.type) continue;
    user_error(
        "format gguf:{}: {} would be {} and {} {}, but a GGUF file has one type for all experts of a block",
        output.mix->name, other.rule.linear, traits(other.type).name, tensor.rule.linear,
        traits(tensor.type).name);
  }
}

/// "a, b and 5 more".
std::string some(const std::vector<std::string>& names) {
  if (names.size() == 1) return names.front();
  return fmt::format("{} and {} more", names.front(), names.size() - 1);
}

void warn_left_out(const ModelGraph& graph, const std::map<std::string, TensorInfo>& tensors,
                   GgufOutput& output) {
  std::set<std::string> known;
  for (const GgufOutputTensor& tensor : output.tensors) known.insert(tensor.rule.hf);
  for (const auto& [name, linears] : graph.stacked_tensors(tensors, "")) known.insert(name);
  std::vector<std::string> left;
  for (const auto& [name, info] : tensors) {
    const bool copy = name == graph.lm_head().name + ".weight" || name.ends_with(".rotary_emb.inv_freq");
    if (!known.contains(name) && !copy) left.push_back(name);
  }
  if (!left.empty())
    output.warnings.push_back(fmt::format("llama.cpp has no place for {}: left out", some(left)));
}

}  // namespace

uint64_t GgufOutput::bytes() const {
  uint64_t sum = 0;
  for (const GgufOutputTensor& tensor : tensors)
    sum += GgufPlan{tensor.rule.gguf, tensor.type, tensor.rule.shape}.bytes();
  return sum;
}

GgufOutput plan_gguf(const GgufMix& mix, const ModelGraph& graph,
                     const std::map<std::string, TensorInfo>& tensors, const GgufWeights& weights) {
  if (const auto reason = gguf_refuses(graph)) user_error("format gguf:{}: {}", mix.name, *reason);
  GgufOutput output;
  output.mix = &mix;
  Chooser chooser(mix, graph, weights);
  for (const GgufTensorRule& rule : gguf_tensors(graph)) output.tensors.push_back(chooser.choose(rule));
  chooser.check_names_decide();
  check_stacks(output);
  output.warnings = gguf_warnings(graph);
  for (const auto& [change, names] : chooser.fallbacks)
    output.warnings.push_back(fmt::format("rows that can't be cut into blocks, {}: {}", change, some(names)));
  if (!chooser.rounded.empty()) {
    output.warnings.push_back(fmt::format(
        "gguf:{} rounds {} from the weights that the solver was given: the solver's codes don't fit its "
        "blocks; `scheme: {{type: float}}` saves the solver's work",
        mix.name, some(chooser.rounded)));
  }
  warn_left_out(graph, tensors, output);
  return output;
}

GgufMetadata gguf_model_keys(const GgufOutput& output, const ModelGraph& graph, const std::string& name) {
  int64_t parameters = 0;
  for (const GgufOutputTensor& tensor : output.tensors) {
    int64_t count = 1;
    for (const int64_t size : tensor.rule.shape) count *= size;
    parameters += count;
  }
  return model_keys(graph, name, *output.mix, parameters);
}

}  // namespace lathe
