#include "apps/quantize/advise.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/quantize/request_checks.h"
#include "formats/safetensors/checkpoint.h"
#include "formats/targets/model_folder.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"
#include "lib/model/json_fields.h"
#include "lib/model/size_limits.h"
#include "lib/model/weights_graph.h"
#include "recipes/parallel_degrees.h"
#include "recipes/served_model.h"

namespace lathe {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

/// The object with the language model's keys; of a model with several parts that is its text part.
JsonFields text_fields(const json& config, const std::string& file) {
  const JsonFields whole(config, file);
  const json* text = whole.find("text_config");
  return text != nullptr ? JsonFields(*text, file, "text_config.") : whole;
}

/// Widths, and for each token of a layer 2 x KV heads x head size, or what latent attention keeps.
void add_attention(const JsonFields& keys, ServedModel& model) {
  const auto find = [&](const char* key) { return keys.size(key, kLargestSize); };
  const int64_t layers = keys.required_size("num_hidden_layers", kMostLayers);
  const int64_t heads = keys.required_size("num_attention_heads", kLargestSize);
  const int64_t head = find("head_dim").value_or(std::max<int64_t>(model.hidden / heads, 1));
  const int64_t kv_heads = find("num_key_value_heads").value_or(heads);
  model.heads = heads;
  model.kv_heads = kv_heads;
  model.attention = heads * head;
  model.kv = kv_heads * head;
  int64_t values = 2 * model.kv;
  if (const auto rank = find("kv_lora_rank")) {
    values = model.kv = *rank + find("qk_rope_head_dim").value_or(0);
    model.latent = true;
  }
  model.cache.assign(static_cast<size_t>(layers), {values, 0});
}

/// Tokens a second and sequence that reading the memory allows: weights once a step, and each sequence's
/// cache.
double most_tokens(const ServedModel& model, const Deployment& place, const Advice& advice) {
  return advice.gpus * place.gpu->bytes_a_second / static_cast<double>(read_in_a_step(model, place, advice));
}

ordered_json advice_json(const AdviseRequest& request, const ServedModel& model, const Deployment& place,
                         const Advice& advice) {
  ordered_json out = {{"schema", 1},
                      {"model", request.model.string()},
                      {"family", model.family},
                      {"parameters", model.parameters},
                      {"context", place.context},
                      {"batch", place.batch},
                      {"memory_bytes", place.memory}};
  out["positions"] = model.positions > 0 ? json(model.positions) : json();
  out["experts"] = nullptr;
  if (model.experts > 0)
    out["experts"] = {{"count", model.experts},
                      {"per_token", model.experts_per_token},
                      {"read_share", experts_read(model, place.batch)}};
  out["gpu"] = nullptr;
  if (place.gpu != nullptr) {
    const GpuGeneration& generation = find_generation(place.gpu->generation);
    out["gpu"] = {{"name", place.gpu->name},
                  {"class", place.gpu->kind},
                  {"generation", generation.name},
                  {"native", generation.native},
                  {"source", place.gpu->source},
                  {"generation_source", generation.source},
                  {"bytes_a_second", place.gpu->bytes_a_second}};
  }
  out["activation_bytes"] = advice.activations;
  out["kv_cache"] = ordered_json::array();
  for (size_t k = 0; k < kCacheBits.size(); ++k) {
    out["kv_cache"].push_back(
        {{"bits", kCacheBits[k]},
         {"bytes", advice.cache[k]},
         {"bytes_per_sequence", kv_cache_bytes(model, place.context, 1, kCacheBits[k])}});
    if (kCacheBits[k] == 16) continue;
    ordered_json& servers = out["kv_cache"].back()["servers"] = ordered_json::array();
    for (const ServedCache& cache : served_caches())
      if (cache.bits == kCacheBits[k] && cache.runs_on(place.gpu))
        servers.push_back({{"type", cache.type},
                           {"server", cache.server},
                           {"how", cache.how},
                           {"generations", cache.generations},
                           {"source", cache.source}});
  }
  out["weights"] = ordered_json::array();
  for (const AdviceRow& row : advice.rows) {
    ordered_json line = {{"name", row.precision->name},
                         {"nominal_bytes", row.weights.nominal},
                         {"bytes", row.weights.bytes},
                         {"left_bytes", row.left},
                         {"group_size", row.weights.group_size},
                         {"kept_linears", row.weights.kept},
                         {"expert_bytes", row.weights.expert_bytes},
                         {"degrees", row.degrees}};
    line["recipes"] = ordered_json::array();
    for (const std::string& recipe : {row.precision->recipe, row.precision->both})
      if (!recipe.empty()) line["recipes"].push_back(recipe);
    line["sums"] = ordered_json::array();
    for (size_t k = 0; k < kCacheBits.size(); ++k)
      line["sums"].push_back({{"kv_bits", kCacheBits[k]},
                              {"bytes", row.total[k]},
                              {"verdict", name_of(row.fit[k])},
                              {"longest_context", row.tokens[k]}});
    out["weights"].push_back(std::move(line));
  }
  out["tensor_parallel"] = {{"degrees", advice.degrees},
                            {"heads", model.heads},
                            {"kv_heads", model.kv_heads},
                            {"source", kParallelSource}};
  out["advice"] = {{"weights", nullptr}, {"why", advice.why}, {"warnings", advice.warnings}};
  if (advice.chosen) {
    out["advice"]["weights"] = advice.rows[*advice.chosen].precision->name;
    out["advice"]["recipe"] = advice.recipe;
    out["advice"]["settings"] = advice.settings;
    out["advice"]["sixteen_bits_fit"] = advice.sixteen_bits_fit;
    out["advice"]["kv_bits"] = kCacheBits[advice.cache_bits];
    out["advice"]["gpus"] = advice.gpus;
    out["advice"]["bytes_of_each_gpu"] = on_all_gpus(advice, advice.rows[*advice.chosen], advice.cache_bits) /
                                         static_cast<uint64_t>(advice.gpus);
    out["advice"]["cache_copies"] = advice.cache_copies;
    out["advice"]["bytes_read_in_a_step"] = read_in_a_step(model, place, advice);
    out["advice"]["tokens_a_second"] = nullptr;
    if (place.gpu != nullptr) out["advice"]["tokens_a_second"] = most_tokens(model, place, advice);
  }
  return out;
}

std::string speed_line(const ServedModel& model, const Deployment& place, const Advice& advice) {
  if (place.gpu == nullptr || !advice.chosen) return {};
  std::string text = fmt::format(
      "speed       at most {:.0f} tokens a second and sequence: its memory gives {:.0f} GB/s, and a step "
      "reads {}",
      most_tokens(model, place, advice), place.gpu->bytes_a_second / 1e9,
      decimal_bytes(read_in_a_step(model, place, advice)));
  if (model.experts > 0) {
    text += fmt::format(", of {} experts {} for a token", model.experts, model.experts_per_token);
    if (place.batch > 1)
      text += fmt::format(", about {:.0f} for {} that choose evenly",
                          experts_read(model, place.batch) * static_cast<double>(model.experts), place.batch);
  }
  return text + "\n";
}

/// No more than the model was made for, whatever the memory would hold.
std::string context_line(const ServedModel& model, int64_t held) {
  if (model.positions == 0 || held <= model.positions)
    return fmt::format("context     memory for {} tokens of each sequence\n", held);
  return fmt::format(
      "context     {} tokens of each sequence, all that the model was made for (there is memory for {})\n",
      model.positions, held);
}

/// Who computes with a KV cache of how many bits there.
std::string cache_lines(const Deployment& place) {
  std::string text;
  for (const int bits : kCacheBits) {
    if (bits == 16) continue;
    std::string label = fmt::format("KV {} bits", bits);
    for (const ServedCache& cache : served_caches()) {
      if (cache.bits != bits || !cache.runs_on(place.gpu)) continue;
      text += fmt::format("{:<12}{}\n", std::exchange(label, ""), describe(cache, place.gpu));
    }
    if (!label.empty())
      text += fmt::format(
          "{:<12}no server; `quantize eval` simulates them (recipes/kv-kivi.yaml, "
          "recipes/kv-skvq.yaml)\n",
          label);
  }
  return text;
}

/// Between how many GPUs it can be divided.
std::string parallel_line(const ServedModel& model, const Advice& advice) {
  std::string text = fmt::format("GPUs        vLLM divides it between {}", fmt::join(advice.degrees, ", "));
  if (advice.chosen && advice.rows[*advice.chosen].degrees != advice.degrees)
    text += fmt::format(" (with {} weights {})", advice.rows[*advice.chosen].precision->name,
                        fmt::join(advice.rows[*advice.chosen].degrees, ", "));
  if (model.heads == 0) return text + "\n";
  text += fmt::format(": {} heads", model.heads);
  if (!model.latent) text += fmt::format(", {} of keys and values", model.kv_heads);
  return text + "\n";
}

std::string parameters_text(int64_t parameters) {
  const auto count = static_cast<double>(parameters);
  return parameters < 1'000'000'000 ? fmt::format("{:.1f} M", count / 1e6)
                                    : fmt::format("{:.2f} B", count / 1e9);
}

/// Of a mixture of experts: what a token is multiplied by.
std::string active_text(const ServedModel& model) {
  if (model.experts == 0) return {};
  int64_t experts = 0;
  for (const ServedModel::Matrix& linear : model.linears)
    if (linear.expert) experts += linear.out * linear.in;
  const int64_t chosen = experts / model.experts * model.experts_per_token;
  return fmt::format(", {} of them for a token: {} of {} experts",
                     parameters_text(model.parameters - experts + chosen), model.experts_per_token,
                     model.experts);
}

std::string advice_text(const AdviseRequest& request, const ServedModel& model, const Deployment& place,
                        const Advice& advice) {
  std::string text = fmt::format("model       {} ({}, {} parameters{})\n", request.model.string(),
                                 model.family, parameters_text(model.parameters), active_text(model));
  text += fmt::format("GPU         {}{}\n", place.gpu != nullptr ? place.gpu->name + ", " : "",
                      decimal_bytes(place.memory));
  text += fmt::format("serves      {} sequence{} of {} tokens; KV cache {} in 16 bits, activations {}\n\n",
                      place.batch, place.batch == 1 ? "" : "s", place.context, decimal_bytes(advice.cache[0]),
                      decimal_bytes(advice.activations));
  text += fmt::format("{:<8} {:>10} {:>11}   in all with a KV cache of\n{:31}", "", "weights", "left", "");
  for (const int bits : kCacheBits) text += fmt::format("  {:>10}      ", fmt::format("{} bits", bits));
  text.erase(text.find_last_not_of(' ') + 1);
  text += '\n';
  for (const AdviceRow& row : advice.rows) {
    text += fmt::format("{:<8} {:>10} {:>11}", row.precision->name, decimal_bytes(row.weights.bytes),
                        (row.left < 0 ? "-" : "") + decimal_bytes(static_cast<uint64_t>(std::abs(row.left))));
    for (size_t k = 0; k < kCacheBits.size(); ++k)
      text += fmt::format("  {:>10} {:<5}", decimal_bytes(row.total[k]), name_of(row.fit[k]));
    text.erase(text.find_last_not_of(' ') + 1);
    text += '\n';
  }
  text += fmt::format("fits: within {:.0f} % of the memory, as servers take it; tight: within all of it\n\n",
                      100 * kServerShare);
  text += cache_lines(place) + parallel_line(model, advice) + "\n";
  if (advice.chosen) {
    const AdviceRow& row = advice.rows[*advice.chosen];
    if (advice.sixteen_bits_fit)
      text += fmt::format("fits        16-bit weights, as they are: {} in all; quantise for speed\n",
                          decimal_bytes(advice.rows.front().total[0]));
    text += fmt::format("advice      {} weights, KV cache in {} bits{}: {}", row.precision->name,
                        kCacheBits[advice.cache_bits],
                        advice.gpus > 1 ? fmt::format(", {} GPUs", advice.gpus) : "", advice.recipe);
    for (const std::string& setting : advice.settings) text += " --set " + setting;
    text += '\n';
    if (advice.gpus == 1) text += context_line(model, row.tokens[advice.cache_bits]);
    text += speed_line(model, place, advice);
    if (row.precision->perplexity)
      text += fmt::format(
          "loss        LLaMA-2-70B's perplexity is reported as {:.2f} with such weights, {:.2f} in 16 bits; "
          "a "
          "smaller model loses more: `quantize compare`\n",
          *row.precision->perplexity, *precisions().front().perplexity);
  } else {
    text += "advice      none\n";
  }
  for (const std::string& warning : advice.warnings) text += fmt::format("warning     {}\n", warning);
  for (const std::string& reason : advice.why) text += fmt::format("why         {}\n", reason);
  return text;
}

}  // namespace

ServedModel read_served_model(const std::filesystem::path& folder) {
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const json& config = checkpoint.config();
  const std::string file = (folder / "config.json").string();
  const std::string family = JsonFields(config, file).word("model_type").value_or("unknown");
  if (is_known_family(family)) {
    ModelFolder known = open_model_folder(folder);
    if (known.quantized) known = as_floating_point(std::move(known), folder);
    return served_model(known.graph, known.checkpoint->tensors());
  }
  const ModelFolder unknown = open_unknown_model(folder, family).folder;
  ServedModel model = served_model(unknown.graph, unknown.checkpoint->tensors());
  const JsonFields keys = text_fields(config, file);
  model.hidden = keys.required_size("hidden_size", kLargestSize);
  model.intermediate = keys.size("intermediate_size", kLargestSize).value_or(4 * model.hidden);
  model.vocabulary = keys.required_size("vocab_size", kLargestSize);
  add_attention(keys, model);
  model.positions = keys.size("max_position_embeddings", kLargestSize).value_or(0);
  return model;
}

std::string advise_model(const AdviseRequest& request) {
  Deployment place{
      .memory = request.vram.value_or(0), .gpu = nullptr, .context = request.context, .batch = request.batch};
  if (request.gpu) {
    place.gpu = &find_gpu(*request.gpu);
    place.memory = place.gpu->memory;
  }
  const ServedModel model = read_served_model(request.model);
  const Advice advice = advise(model, place);
  if (std::max(advice.cache.front(), advice.activations) == kMostServedBytes)
    user_error(
        "{}: {} sequences of {} tokens take more bytes than can be counted; expected sizes in config.json "
        "that a server could hold, or a smaller --context or --batch",
        request.model.string(), place.batch, place.context);
  if (!request.json) return advice_text(request, model, place, advice);
  return advice_json(request, model, place, advice).dump(2, ' ', false, json::error_handler_t::replace) +
         "\n";
}

}  // namespace lathe
