// A recipe as JSON, every default filled in.
#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/numeric/kv_cache_methods.h"
#include "recipes/recipe.h"

namespace lathe {
namespace {

nlohmann::json describe(const AlgorithmChoice& choice) {
  nlohmann::json options = nlohmann::json::object();
  for (const auto& [name, value] : choice.options.all()) {
    std::visit([&, &key = name](const auto& v) { options[key] = v; }, value);
  }
  nlohmann::json result = nlohmann::json::object();
  result[choice.name] = std::move(options);
  return result;
}

/// The word of `per`.
std::string granularity(const Scheme& scheme) {
  if (scheme.per_tensor()) return "tensor";
  return scheme.shares_rows() ? "block" : "channel";
}

nlohmann::json describe(const Scheme& scheme) {
  if (scheme.floating()) return {{"type", scheme.type}};
  if (const FloatGridType* const grid = scheme.float_grid()) {
    nlohmann::json result = {{"type", scheme.type}};
    if (grid->group_size != 0) return result;
    result["per"] = granularity(scheme);
    return result;
  }
  nlohmann::json result = {{"type", scheme.type},
                           {"bits", scheme.bits},
                           {"group_size", scheme.group_size},
                           {"symmetric", scheme.symmetric},
                           {"zero_point", scheme.real_zero ? "real" : "integer"},
                           {"axis", scheme.axis}};
  if (scheme.scale_grid) {
    result["scale_bits"] = scheme.scale_grid->bits;
    result["scale_group"] = scheme.scale_grid->rows;
  }
  return result;
}

nlohmann::json describe(const ActivationTask& task) {
  const ActivationScheme& scheme = task.scheme;
  nlohmann::json result = {{"type", scheme.type},
                           {"bits", scheme.bits},
                           {"dynamic", scheme.dynamic},
                           {"per", name_of(scheme.per)},
                           {"symmetric", scheme.symmetric}};
  if (const FloatGridType* const grid = scheme.float_grid()) {
    for (const char* key : {"bits", "symmetric"}) result.erase(key);
    if (grid->group_size != 0)
      for (const char* key : {"dynamic", "per"}) result.erase(key);
  }
  if (!scheme.calibrated()) return result;
  result["observer"] = name_of(task.observer.method);
  if (task.observer.method == ActivationObserver::percentile) result["percentile"] = task.observer.percentile;
  if (task.observer.method == ActivationObserver::ema)
    result["averaging_constant"] = task.observer.averaging_constant;
  return result;
}

/// Keys that were not given have no value that could be written instead.
nlohmann::json describe(const DataSource& source) {
  nlohmann::json result = {{"path", source.path.string()}};
  if (!source.field.empty()) result["field"] = source.field;
  if (source.weight > 0) result["weight"] = source.weight;
  if (source.samples > 0) result["samples"] = source.samples;
  if (source.token_weight != 1) result["token_weight"] = source.token_weight;
  return result;
}

nlohmann::json path_or_null(const std::filesystem::path& path) {
  return path.empty() ? nlohmann::json() : nlohmann::json(path.string());
}

template <class Number>
nlohmann::json or_null(const std::optional<Number>& number) {
  return number ? nlohmann::json(*number) : nlohmann::json();
}

nlohmann::json describe(const Rule& rule) {
  return {{"scheme", describe(rule.scheme)},
          {"activations", rule.activations ? describe(*rule.activations) : nlohmann::json()},
          {"solver", describe(rule.solver)}};
}

/// Keys of which one is given.
nlohmann::json describe(const Budget& budget) {
  nlohmann::json result = nlohmann::json::object();
  if (budget.bits_per_weight) result["bits_per_weight"] = *budget.bits_per_weight;
  if (budget.size) result["size"] = *budget.size;
  if (budget.kl) result["kl"] = *budget.kl;
  if (budget.vram)
    result.update({{"vram", *budget.vram}, {"context", budget.context}, {"batch", budget.batch}});
  return result;
}

}  // namespace

std::string Candidate::describe() const {
  if (block) return std::string(traits(*block).name);
  if (left()) return "left in floating point";
  const auto& input = rule.activations;
  return with_input(rule.scheme.describe(), input ? std::optional(input->scheme) : std::nullopt) + ", " +
         rule.solver.name;
}

std::string Budget::describe() const {
  if (bits_per_weight) return fmt::format("{:g} bits/weight", *bits_per_weight);
  if (vram) return fmt::format("a GPU of {} for {} x {} tokens", human_bytes(*vram), batch, context);
  return size ? human_bytes(*size) : fmt::format("KL {:g}", *kl);
}

nlohmann::json candidate_json(const Candidate& candidate) {
  if (candidate.block) return {{"gguf", traits(*candidate.block).name}};
  return describe(candidate.rule);
}

nlohmann::json Recipe::to_json() const {
  using nlohmann::json;
  json result = {
      {"model", path_or_null(model)},
      {"output",
       {{"path", path_or_null(output.path)},
        {"formats", output.formats},
        {"shard_size", output.shard_size},
        {"scale_dtype", output.scale_dtype ? json(name_of(*output.scale_dtype)) : json(nullptr)},
        {"gguf_shard_size", output.gguf_shard_size == 0 ? json(nullptr) : json(output.gguf_shard_size)},
        {"gguf_pre_tokenizer",
         output.gguf_pre_tokenizer.empty() ? json(nullptr) : json(output.gguf_pre_tokenizer)},
        {"imatrix", path_or_null(output.imatrix)},
        {"gguf_tensor_types", output.gguf_tensor_types.empty() ? json() : json::array()}}},
      {"calibration",
       {{"data", json::array()},
        {"samples", calibration.samples},
        {"seq_len", calibration.seq_len},
        {"seed", calibration.seed},
        {"packing", name_of(calibration.packing)},
        {"min_tokens", calibration.min_tokens},
        {"special_tokens", calibration.special_tokens},
        {"bos", name_of(calibration.bos)},
        {"propagate", name_of(calibration.propagate)},
        {"experts",
         {{"min_tokens", calibration.experts.min_tokens},
          {"fallback", name_of(calibration.experts.fallback)}}}}},
      {"transforms", json::array()},
      {"rules", json::array()},
      {"ignore", ignore},
      {"kv_cache", kv_cache ? kv_cache_json(*kv_cache) : json()},
      {"evaluate", nullptr},
      {"verify", {{"max_kl", verify.max_kl ? json(*verify.max_kl) : json()}, {"fallbacks", json::array()}}},
      {"limits",
       {{"ram", or_null(limits.ram)}, {"vram", or_null(limits.vram)}, {"disk", or_null(limits.disk)}}},
      {"report", {{"activations", report.activations}}}};
  if (calibration.none) result["calibration"] = nullptr;
  for (const DataSource& source : calibration.data) result["calibration"]["data"].push_back(describe(source));
  for (const AlgorithmChoice& transform : transforms) result["transforms"].push_back(describe(transform));
  for (const Rule& rule : rules) {
    json entry = describe(rule);
    entry["targets"] = rule.targets;
    result["rules"].push_back(std::move(entry));
  }
  for (const TensorType& row : output.gguf_tensor_types)
    result["output"]["gguf_tensor_types"].push_back(
        {{"tensors", row.tensors}, {"type", traits(row.type).name}});
  if (!candidates.empty()) {
    result.erase("rules");
    for (const Candidate& candidate : candidates) result["candidates"].push_back(candidate_json(candidate));
    result["budget"] = budget ? describe(*budget) : json();
  }
  if (!candidates.empty() || sensitivity.of_rules)
    result["sensitivity"] = {{"file", path_or_null(sensitivity.file)},
                             {"held_out", sensitivity.held_out},
                             {"loss", name_of(sensitivity.loss)},
                             {"checked", sensitivity.checked},
                             {"linears", sensitivity.linears}};
  for (const SolverFallback fallback : verify.fallbacks)
    result["verify"]["fallbacks"].push_back(name_of(fallback));
  if (evaluate) {
    result["evaluate"] = {
        {"text", evaluate->text.string()}, {"ctx", evaluate->ctx}, {"rows", evaluate->rows}};
  }
  return result;
}

}  // namespace lathe
