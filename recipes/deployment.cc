#include "recipes/deployment.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "lib/base/checked.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"
#include "recipes/parallel_degrees.h"
#include "recipes/served_model.h"

namespace lathe {
namespace {

constexpr uint64_t kSmallCard = 24'000'000'000;

/// Of sizes that a file gave; nothing where it doesn't fit in 64 bits.
std::optional<uint64_t> product(std::initializer_list<int64_t> factors) {
  std::optional<uint64_t> result = 1;
  for (const int64_t factor : factors)
    if (result) result = checked_mul(*result, static_cast<uint64_t>(factor));
  return result;
}

uint64_t counted(std::optional<uint64_t> bytes) {
  return std::min(bytes.value_or(kMostServedBytes), kMostServedBytes);
}

/// The recipe's scheme for this model: with smaller groups where its own don't divide every linear's input,
/// and for experts without zero points, which neither transformers nor vLLM reads there
/// (formats/targets/compressed_tensors.cc).
Scheme fitted(const ServedModel& model, Scheme scheme) {
  if (scheme.type == "int" && std::ranges::any_of(model.linears, &ServedModel::Matrix::expert))
    scheme.symmetric = true;
  if (scheme.type != "int" || scheme.group_size == -1) return scheme;
  for (const int64_t group : {scheme.group_size, int64_t{64}, int64_t{32}}) {
    Scheme tried = scheme;
    tried.group_size = group;
    if (std::ranges::all_of(model.linears, [&](const auto& linear) { return tried.divides(linear.in); }))
      return tried;
  }
  return scheme;
}

bool is_small_card(const Deployment& place) {
  return place.memory <= kSmallCard && (place.gpu == nullptr || place.gpu->kind != "datacenter");
}

bool serves_many(const Deployment& place) { return place.batch >= kComputeBound; }

/// Names of precisions, the one that suits best first.
std::vector<std::string> order_for(const Deployment& place) {
  const auto computes = [&](std::string_view format) {
    return place.gpu != nullptr && find_generation(place.gpu->generation).computes(format);
  };
  if (computes("NVFP4")) return {"NVFP4", "INT4"};
  if (is_small_card(place)) return {"INT4"};
  if (computes("FP8")) return {"FP8", "INT4"};
  if (serves_many(place) && (place.gpu == nullptr || computes("INT8"))) return {"INT8", "INT4"};
  return {"INT4"};
}

std::string recipe_of(const Precision& precision, int64_t batch) {
  const bool both = precision.recipe.empty() || (batch >= kComputeBound && !precision.both.empty());
  return both ? precision.both : precision.recipe;
}

Fit fit_of(uint64_t bytes, uint64_t memory) {
  if (static_cast<double>(bytes) <= kServerShare * static_cast<double>(memory)) return Fit::fits;
  return bytes <= memory ? Fit::tight : Fit::no;
}

/// The longest context whose sum a server takes, and no longer than a search by halves looks.
int64_t longest_context(const ServedModel& model, const Deployment& place, uint64_t weights, int bits) {
  const auto holds = [&](int64_t context) {
    const uint64_t sum = weights + activation_bytes(model, context, place.batch) +
                         kv_cache_bytes(model, context, place.batch, bits);
    return fit_of(sum, place.memory) == Fit::fits;
  };
  constexpr int64_t kLongest = int64_t{1} << 24;
  if (!holds(1)) return 0;
  int64_t low = 1, high = kLongest + 1;  // holds(low), and not holds(high) or it doesn't matter
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (holds(middle) ? low : high) = middle;
  }
  return low;
}

/// Groups that cut inputs have to end with, of a precision as it is written for the model; -1: rows whole.
int64_t group_of(const AdviceRow& row) {
  if (!row.precision->scheme) return -1;
  return row.weights.group_size != 0 ? row.weights.group_size : row.precision->scheme->group_size;
}

bool divides_between(const AdviceRow& row, int gpus) {
  return std::ranges::find(row.degrees, gpus) != row.degrees.end();
}

uint64_t cache_on_all(const Advice& advice, size_t bits) {
  return counted(checked_mul(advice.cache[bits], static_cast<uint64_t>(advice.cache_copies)));
}

AdviceRow row_of(const ServedModel& model, const Deployment& place, const Precision& precision,
                 const Advice& advice) {
  AdviceRow row{.precision = &precision, .weights = weight_size(model, precision), .degrees = {}};
  row.left = static_cast<int64_t>(place.memory) - static_cast<int64_t>(row.weights.bytes);
  for (size_t k = 0; k < kCacheBits.size(); ++k) {
    row.total[k] = row.weights.bytes + advice.activations + advice.cache[k];
    row.fit[k] = fit_of(row.total[k], place.memory);
    row.tokens[k] = longest_context(model, place, row.weights.bytes, kCacheBits[k]);
  }
  row.degrees = parallel_degrees(model, group_of(row));
  return row;
}

const AdviceRow& row_named(const Advice& advice, std::string_view name) {
  const auto row =
      std::ranges::find_if(advice.rows, [&](const auto& r) { return r.precision->name == name; });
  LATHE_ASSERT(row != advice.rows.end(), "no precision '{}'", name);
  return *row;
}

/// Of a row's bytes on all GPUs each one's share.
uint64_t of_one_gpu(const Advice& advice, const AdviceRow& row, size_t bits) {
  return on_all_gpus(advice, row, bits) / static_cast<uint64_t>(advice.gpus);
}

/// The first in `order` that as few GPUs as possible hold, with a cache of 16 bits or, second, of 8.
void choose(const std::vector<std::string>& order, const ServedModel& model, const Deployment& place,
            Advice& advice) {
  for (const int degree : advice.degrees) {
    advice.gpus = degree;
    advice.cache_copies = cache_copies(model, degree);
    advice.head_copies = model.latent ? 1 : advice.cache_copies;
    for (const std::string& name : order) {
      const AdviceRow& row = row_named(advice, name);
      if (!divides_between(row, degree)) continue;
      for (size_t bits = 0; bits < 2; ++bits) {
        if (fit_of(of_one_gpu(advice, row, bits), place.memory) != Fit::fits) continue;
        advice.chosen = static_cast<size_t>(&row - advice.rows.data());
        advice.cache_bits = bits;
        return;
      }
    }
  }
}

/// The cache of 8 bits to take.
std::string eight_bits_on(const Gpu* gpu) {
  const auto first = std::ranges::find_if(
      served_caches(), [&](const ServedCache& cache) { return cache.bits == 8 && cache.runs_on(gpu); });
  LATHE_ASSERT(first != served_caches().end(), "gpus.json: no cache of 8 bits for {}",
               gpu == nullptr ? "any GPU" : gpu->name);
  return describe(*first, gpu);
}

std::string sequences(int64_t batch) {
  return fmt::format("{} sequence{} at a time", batch, batch == 1 ? "" : "s");
}

/// What the choice's weights cost and gain where a few sequences are decoded.
std::string few_sequences(const Deployment& place, const Advice& advice, const AdviceRow& chosen) {
  const AdviceRow& least =
      *std::ranges::min_element(advice.rows, {}, [](const auto& row) { return row.weights.bytes; });
  const Precision &taken = *chosen.precision, &smaller = *least.precision;
  const std::string bound = sequences(place.batch) + ": decoding is bound by reading memory, and ";
  if (least.weights.bytes == chosen.weights.bytes)
    return bound + fmt::format("{}'s weights are the fewest bytes, {}", taken.name,
                               decimal_bytes(chosen.weights.bytes));
  std::string text = bound + fmt::format("{}'s {} of weights are read faster than {}'s {}; but ",
                                         smaller.name, decimal_bytes(least.weights.bytes), taken.name,
                                         decimal_bytes(chosen.weights.bytes));
  if (taken.both.empty()) return text + fmt::format("{} is for GPUs that multiply it natively", smaller.name);
  if (advice.recipe != taken.both)
    return text + fmt::format(
                      "{} is what this generation multiplies natively as soon as activations are "
                      "quantised, too: {}, for long prompts or from {} sequences on",
                      taken.name, taken.both, kComputeBound);
  if (taken.perplexity && smaller.perplexity && *taken.perplexity < *smaller.perplexity)
    text += fmt::format("{} loses less (LLaMA-2-70B's perplexity: {:.2f} against {:.2f}), and ", taken.name,
                        *taken.perplexity, *smaller.perplexity);
  return text + fmt::format("prompts are multiplied in {}", taken.arithmetic);
}

/// Beside which weights how much of the memory is left.
std::string left_beside(const Deployment& place, const Advice& advice, const AdviceRow& row) {
  const uint64_t memory = place.memory * static_cast<uint64_t>(advice.gpus);
  return memory > row.weights.bytes ? decimal_bytes(memory - row.weights.bytes) : "nothing";
}

/// Where many are served: what their products are computed in, or why in no fewer bits.
std::string many_sequences(const Deployment& place, const Advice& advice, const AdviceRow& chosen) {
  const Precision& taken = *chosen.precision;
  const std::string counts =
      sequences(place.batch) + ": weights are read once for all of them, so arithmetic counts, too; ";
  if (advice.recipe == taken.both)
    return counts + fmt::format("weights and activations in {} are multiplied natively{}", taken.arithmetic,
                                place.gpu == nullptr ? " from Turing on" : "");
  const std::string sixteen = counts + "activations in 16 bits, for ";
  const auto computes = [&](std::string_view format) {
    return place.gpu != nullptr && find_generation(place.gpu->generation).computes(format);
  };
  if (place.gpu != nullptr && !computes("FP8") && !computes("INT8"))
    return sixteen + "its generation multiplies nothing narrower";
  if (!is_small_card(place) || order_for(place).front() != taken.name)
    return sixteen + "no recipe fits whose activations are multiplied natively";
  const AdviceRow& other = row_named(advice, computes("FP8") ? "FP8" : "INT8");
  const bool fits = fit_of(of_one_gpu(advice, other, 1), place.memory) == Fit::fits;
  return sixteen +
         fmt::format(
             "a card of 24 GB and less holds more context with weights of 4 bits: {} {}",
             other.precision->both,
             fits ? fmt::format("would fit, too ({} with a KV cache of 8 bits), and multiplies in {}",
                                decimal_bytes(on_all_gpus(advice, other, 1)), other.precision->arithmetic)
                  : "doesn't fit");
}

/// Why these weights and no others.
void explain_precision(const Deployment& place, Advice& advice) {
  const AdviceRow& chosen = advice.rows[*advice.chosen];
  const Precision& taken = *chosen.precision;
  advice.why.push_back(serves_many(place) ? many_sequences(place, advice, chosen)
                                          : few_sequences(place, advice, chosen));
  for (const std::string& name : order_for(place)) {
    if (name == taken.name) break;
    const AdviceRow& other = row_named(advice, name);
    if (!divides_between(other, advice.gpus)) {
      advice.why.push_back(fmt::format("{} weights can't be divided between {} GPUs", name, advice.gpus));
      continue;
    }
    advice.why.push_back(fmt::format(
        "{} weights don't fit: with a KV cache of 8 bits they take {}, and a server {:.0f} % of {}{}", name,
        decimal_bytes(on_all_gpus(advice, other, 1)), 100 * kServerShare,
        advice.gpus > 1 ? fmt::format("{} x ", advice.gpus) : "", decimal_bytes(place.memory)));
  }
  if (is_small_card(place) && taken.name == "INT4")
    advice.why.push_back(
        fmt::format("24 GB and below: beside INT4's weights {} are left, beside those in 16 "
                    "bits {}",
                    left_beside(place, advice, chosen), left_beside(place, advice, advice.rows.front())));
  if (place.gpu == nullptr) return;
  const GpuGeneration& generation = find_generation(place.gpu->generation);
  if (!generation.computes("FP8")) advice.why.push_back("it has no FP8");
  if (advice.recipe != taken.both)
    advice.why.push_back(fmt::format(
        "beside activations in 16 bits, weights of 4 bits are dequantised to 16 when they are multiplied{}",
        generation.computes(taken.name) ? fmt::format("; native {} needs activations in it, too", taken.name)
                                        : ""));
}

/// Numbers of GPUs that machines have, up to `most`, and that vLLM doesn't divide the model between with the
/// row's weights.
void explain_refused(const ServedModel& model, int most, const AdviceRow& row, Advice& advice) {
  std::vector<std::string> refused;
  for (int degree = 2; degree <= most; degree *= 2)
    if (const auto problem = parallel_problem(model, degree, group_of(row))) refused.push_back(*problem);
  if (refused.empty()) return;
  advice.why.push_back(fmt::format("vLLM doesn't divide it between every number of GPUs: {} ({})",
                                   join_words(refused), kParallelSource));
}

/// Why so many GPUs, and what their number adds to the cache.
void explain_degree(const ServedModel& model, Advice& advice) {
  int fewer = 1;
  for (const int degree : row_named(advice, "INT4").degrees)
    if (degree < advice.gpus) fewer = degree;
  const AdviceRow& row = advice.rows[*advice.chosen];
  advice.why.push_back(
      fmt::format("{} GPU{} hold it, even with INT4 weights and a KV cache of 8 bits: tensor "
                  "parallelism of {}",
                  fewer, fewer == 1 ? " doesn't" : "s don't", advice.gpus));
  explain_refused(model, advice.gpus, row, advice);
  advice.why.push_back(fmt::format(
      "each of {} GPUs keeps the residual stream and the logits whole: activations {} in all in place of {}",
      advice.gpus, decimal_bytes(activations_on_all(advice)), decimal_bytes(advice.activations)));
  if (advice.cache_copies == 1) return;
  const std::string where =
      model.latent ? "each GPU holds the cache of latent attention"
                   : fmt::format("with {} KV heads each stands on {} GPUs, and so does its cache",
                                 model.kv_heads, advice.cache_copies);
  const uint64_t weights = weights_on_all(advice, row);
  advice.why.push_back(fmt::format(
      "{}: {} in all in place of {}{} ({})", where, decimal_bytes(cache_on_all(advice, advice.cache_bits)),
      decimal_bytes(advice.cache[advice.cache_bits]),
      weights == row.weights.bytes ? ""
                                   : fmt::format("; and so do their weights, {} in all in place of {}",
                                                 decimal_bytes(weights), decimal_bytes(row.weights.bytes)),
      kParallelSource));
}

/// What speaks against quantising at all comes first where the memory has room.
void explain_sixteen_bits(const Deployment& place, Advice& advice) {
  const AdviceRow &plain = advice.rows.front(), &chosen = advice.rows[*advice.chosen];
  if (plain.fit[0] != Fit::fits || advice.gpus > 1) return;
  advice.why.push_back(
      fmt::format("16-bit weights would fit, too: {} in all, {:.1f} % of {}{}", decimal_bytes(plain.total[0]),
                  100 * static_cast<double>(plain.total[0]) / static_cast<double>(place.memory),
                  decimal_bytes(place.memory),
                  advice.sixteen_bits_fit
                      ? fmt::format("; the memory asks for nothing, and they lose nothing: quantise for "
                                    "speed, {} of weights to read in place of {}",
                                    decimal_bytes(chosen.weights.bytes), decimal_bytes(plain.weights.bytes))
                      : ""));
}

/// "24GB" or "8GiB", or the bytes where neither is whole.
std::string as_setting(uint64_t bytes) {
  if (bytes % 1'000'000'000 == 0) return fmt::format("{}GB", bytes / 1'000'000'000);
  constexpr uint64_t kGib = uint64_t{1} << 30;
  return bytes % kGib == 0 ? fmt::format("{}GiB", bytes / kGib) : std::to_string(bytes);
}

/// What a mixture of recipes/fit-8gib.yaml's 3 to 8 bits makes of one such GPU: that it holds the model at
/// all, or that more bits fit than INT4's. Nothing for experts, whose engines read none of its candidates.
void explain_mixture(const ServedModel& model, const Deployment& place, Advice& advice) {
  constexpr double kLeast = 3.25, kMost = 8.15, kMoreThanFour = 4.5;  // bits a weight, scales counted
  double weights = 0;
  for (const ServedModel::Matrix& linear : model.linears) {
    if (linear.expert) return;
    weights += static_cast<double>(linear.out) * static_cast<double>(linear.in);
  }
  const bool one = advice.chosen && advice.gpus == 1;
  const size_t cache = one ? advice.cache_bits : 1;
  const auto cache_bits = static_cast<double>(kCacheBits[cache]);
  const double room =
      static_cast<double>(room_for_weights(model, place.memory, place.context, place.batch, cache_bits)) -
      2 * static_cast<double>(model.floating);
  const double bits = std::min(kMost, weights > 0 ? 8 * room / weights : 0);
  const bool for_room =
      one && !advice.sixteen_bits_fit && advice.rows[*advice.chosen].precision->name == "INT4";
  if (bits < (one ? kMoreThanFour : kLeast) || (one && !for_room)) return;
  advice.why.push_back(fmt::format(
      "{}: recipes/fit-8gib.yaml --set 'budget={{vram: {}, context: {}, batch: {}}}'{}, about {:.1f} bits a "
      "weight, more where they are needed",
      one ? "more bits than 4 have room, in a mixture" : "one GPU holds a mixture of 3 to 8 bits",
      as_setting(place.memory), place.context, place.batch,
      cache == 0 ? "" : " --set 'kv_cache={type: float}'", bits));
}

/// What the recipe has to be told.
void explain_settings(const ServedModel& model, const AdviceRow& row, Advice& advice) {
  const auto set = [&](std::string setting, const std::string& reason) {
    advice.why.push_back(fmt::format("{}: --set {}", reason, setting));
    advice.settings.push_back(std::move(setting));
  };
  if (row.weights.group_size != 0)
    set(fmt::format("rules[0].scheme.group_size={}", row.weights.group_size),
        fmt::format("groups of {} don't divide every linear's input", row.precision->scheme->group_size));
  if (row.weights.made_symmetric)
    set("rules[0].scheme.symmetric=true", "neither transformers nor vLLM reads zero points of experts");
  const bool experts = std::ranges::any_of(model.linears, &ServedModel::Matrix::expert);
  if (experts && advice.recipe == "recipes/nvfp4-w4a4.yaml")
    set("output.formats=[modelopt]", "transformers reads no experts with static ranges of inputs");
}

void explain(const ServedModel& model, const Deployment& place, Advice& advice) {
  if (advice.chosen && advice.sixteen_bits_fit) explain_sixteen_bits(place, advice);
  if (place.gpu == nullptr) {
    advice.why.push_back("of this GPU only the memory is known; --gpu also tells what it computes natively");
  } else {
    const GpuGeneration& generation = find_generation(place.gpu->generation);
    advice.why.push_back(fmt::format("{} ({}) multiplies {} natively", place.gpu->name, generation.name,
                                     fmt::join(generation.native, ", ")));
  }
  if (!advice.chosen) {
    advice.why.push_back(fmt::format(
        "not even {} of these GPUs hold it with 4-bit weights and a KV cache of 8 bits: a shorter "
        "--context or a smaller --batch",
        advice.degrees.back()));
    explain_refused(model, kMostGpus, row_named(advice, "INT4"), advice);
    explain_mixture(model, place, advice);
    return;
  }
  explain_precision(place, advice);
  const AdviceRow& row = advice.rows[*advice.chosen];
  advice.why.push_back(fmt::format(
      "weights {}, KV cache {}, activations {}: {:.1f} % of {}{}", decimal_bytes(weights_on_all(advice, row)),
      decimal_bytes(cache_on_all(advice, advice.cache_bits)), decimal_bytes(activations_on_all(advice)),
      100 * static_cast<double>(on_all_gpus(advice, row, advice.cache_bits)) /
          (static_cast<double>(place.memory) * advice.gpus),
      advice.gpus > 1 ? fmt::format("{} x ", advice.gpus) : "", decimal_bytes(place.memory)));
  if (advice.gpus > 1) explain_degree(model, advice);
  if (advice.cache_bits == 1)
    advice.why.push_back(fmt::format("a KV cache of 16 bits would take {}: {}",
                                     decimal_bytes(advice.cache[0]), eight_bits_on(place.gpu)));
  explain_settings(model, row, advice);
  explain_mixture(model, place, advice);
  if (row.weights.kept > 0)
    advice.why.push_back(fmt::format("{} of {} linears stay in 16 bits: no group divides their inputs",
                                     row.weights.kept, model.linears.size()));
  if (!advice.sixteen_bits_fit) explain_sixteen_bits(place, advice);
}

}  // namespace

std::string decimal_bytes(uint64_t bytes) {
  const auto value = static_cast<double>(bytes);
  return bytes < 1'000'000'000 ? fmt::format("{:.1f} MB", value / 1e6)
                               : fmt::format("{:.2f} GB", value / 1e9);
}

std::string describe(const ServedCache& cache, const Gpu* gpu) {
  const bool everywhere = cache.generations.size() == gpu_generations().size();
  return fmt::format(
      "{} in {}{}: {}", cache.type, cache.server,
      gpu != nullptr || everywhere ? "" : fmt::format(" ({})", fmt::join(cache.generations, ", ")),
      cache.how);
}

uint64_t weights_on_all(const Advice& advice, const AdviceRow& row) {
  return row.weights.bytes + static_cast<uint64_t>(advice.head_copies - 1) * row.weights.kv_bytes;
}

uint64_t activations_on_all(const Advice& advice) {
  return advice.activations + static_cast<uint64_t>(advice.gpus - 1) * advice.undivided;
}

uint64_t on_all_gpus(const Advice& advice, const AdviceRow& row, size_t bits) {
  return weights_on_all(advice, row) + activations_on_all(advice) + cache_on_all(advice, bits);
}

double experts_read(const ServedModel& model, int64_t batch) {
  if (model.experts == 0) return 1;
  const double chosen = static_cast<double>(model.experts_per_token) / static_cast<double>(model.experts);
  return 1 - std::pow(1 - std::min(chosen, 1.0), static_cast<double>(batch));
}

uint64_t read_in_a_step(const ServedModel& model, const Deployment& place, const Advice& advice) {
  const AdviceRow& row = advice.rows[*advice.chosen];
  const double left = static_cast<double>(row.weights.expert_bytes) * (1 - experts_read(model, place.batch));
  return weights_on_all(advice, row) + cache_on_all(advice, advice.cache_bits) - static_cast<uint64_t>(left);
}

std::string_view name_of(Fit fit) { return fit == Fit::fits ? "fits" : fit == Fit::tight ? "tight" : "no"; }

uint64_t kv_cache_bytes(const ServedModel& model, int64_t context, int64_t batch, double bits) {
  std::optional<uint64_t> values = 0;
  for (const ServedModel::Cache& layer : model.cache) {
    const int64_t tokens = layer.window > 0 ? std::min(layer.window, context) : context;
    const auto of_layer = product({layer.values, tokens});
    values = values && of_layer ? checked_add(*values, *of_layer) : std::nullopt;
  }
  if (values) values = checked_mul(*values, static_cast<uint64_t>(batch));
  if (!values) return kMostServedBytes;
  return counted(static_cast<uint64_t>(
      std::min(std::ceil(static_cast<double>(*values) * bits / 8), static_cast<double>(kMostServedBytes))));
}

uint64_t activation_bytes(const ServedModel& model, int64_t context, int64_t batch) {
  const int64_t tokens = std::min(kStepTokens, context * batch);
  const int64_t values = 2 * model.hidden + 2 * model.attention + 2 * model.kv + 3 * model.intermediate;
  const auto streams = product({tokens, values, 2}), logits = product({batch, model.vocabulary, 4});
  return counted(streams && logits ? checked_add(*streams, *logits) : std::nullopt);
}

uint64_t undivided_bytes(const ServedModel& model, int64_t context, int64_t batch) {
  const int64_t tokens = std::min(kStepTokens, context * batch);
  const auto stream = product({tokens, 2 * model.hidden, 2}), logits = product({batch, model.vocabulary, 4});
  return counted(stream && logits ? checked_add(*stream, *logits) : std::nullopt);
}

const std::vector<Precision>& precisions() {
  static const std::vector<Precision> all = {
      {"FP16", 16, std::nullopt, "", "", "FP16", 3.12},
      {"FP8", 8, Scheme::of_floats("fp8_e4m3", 1, -1), "", "recipes/fp8-dynamic.yaml", "FP8", 3.13},
      {"INT8", 8, Scheme{.bits = 8, .group_size = -1}, "", "recipes/smoothquant.yaml", "INT8", 3.14},
      {"INT4", 4, Scheme{.bits = 4, .group_size = 128, .symmetric = false}, "recipes/awq.yaml", "", "FP16",
       3.18},
      {"NVFP4", 4, Scheme::of_floats("nvfp4"), "recipes/nvfp4.yaml", "recipes/nvfp4-w4a4.yaml", "NVFP4"}};
  return all;
}

WeightSize weight_size(const ServedModel& model, const Precision& precision) {
  WeightSize size;
  size.nominal = static_cast<uint64_t>(model.parameters) * static_cast<uint64_t>(precision.bits) / 8;
  double bits = 16 * static_cast<double>(model.floating);
  std::optional<Scheme> scheme;
  if (precision.scheme) {
    scheme = fitted(model, *precision.scheme);
    if (scheme->group_size != precision.scheme->group_size) size.group_size = scheme->group_size;
    size.made_symmetric = scheme->symmetric != precision.scheme->symmetric;
  }
  double experts = 0, kv = 0;
  for (const ServedModel::Matrix& linear : model.linears) {
    const double weights = static_cast<double>(linear.out) * static_cast<double>(linear.in);
    const bool divides = scheme && scheme->divides(linear.in);
    if (scheme && !divides) ++size.kept;
    const double own = weights * (divides ? scheme->bits_per_weight(linear.out, linear.in) : 16);
    bits += own;
    if (linear.expert) experts += own;
    kv += own * static_cast<double>(linear.kv_rows) / static_cast<double>(linear.out);
  }
  size.bytes = static_cast<uint64_t>(std::ceil(bits / 8));
  size.expert_bytes = static_cast<uint64_t>(experts / 8);
  size.kv_bytes = static_cast<uint64_t>(kv / 8);
  return size;
}

Advice advise(const ServedModel& model, const Deployment& deployment) {
  Advice advice;
  advice.activations = activation_bytes(model, deployment.context, deployment.batch);
  advice.undivided = undivided_bytes(model, deployment.context, deployment.batch);
  for (size_t k = 0; k < kCacheBits.size(); ++k)
    advice.cache[k] = kv_cache_bytes(model, deployment.context, deployment.batch, kCacheBits[k]);
  for (const Precision& precision : precisions())
    advice.rows.push_back(row_of(model, deployment, precision, advice));
  advice.degrees = parallel_degrees(model);
  choose(order_for(deployment), model, deployment, advice);
  if (advice.chosen) advice.recipe = recipe_of(*advice.rows[*advice.chosen].precision, deployment.batch);
  advice.sixteen_bits_fit = advice.gpus == 1 && advice.rows.front().total[0] <= deployment.memory / 2;
  explain(model, deployment, advice);
  if (deployment.gpu != nullptr)
    if (const std::string& note = find_generation(deployment.gpu->generation).note; !note.empty())
      advice.warnings.push_back(note);
  if (model.positions > 0 && deployment.context > model.positions)
    advice.warnings.push_back(fmt::format(
        "the model was made for {} positions (max_position_embeddings and rotary scaling): servers "
        "refuse a context of {}",
        model.positions, deployment.context));
  return advice;
}

}  // namespace lathe
