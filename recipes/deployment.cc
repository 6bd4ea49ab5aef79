#include "recipes/deployment.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "lib/base/error.h"

namespace lathe {
namespace {

constexpr uint64_t kSmallCard = 24'000'000'000;

/// The recipe's scheme for this model: with smaller groups where its own don't divide every linear's input.
Scheme fitted(const ServedModel& model, Scheme scheme) {
  if (scheme.type != "int" || scheme.group_size == -1) return scheme;
  for (const int64_t group : {scheme.group_size, int64_t{64}, int64_t{32}}) {
    Scheme tried = scheme;
    tried.group_size = group;
    if (std::ranges::all_of(model.linears, [&](const auto& linear) { return tried.divides(linear.in); }))
      return tried;
  }
  return scheme;
}

/// Names of precisions, the one that suits best first; and why.
std::vector<std::string> order_for(const Deployment& place, std::vector<std::string>& why) {
  const bool many = place.batch >= kComputeBound;
  why.push_back(
      many ? fmt::format(
                 "{} sequences at a time: products are bound by arithmetic, which activations of fewer "
                 "bits speed up",
                 place.batch)
           : fmt::format(
                 "{} sequence{} at a time: decoding is bound by reading the weights, so fewer bytes of "
                 "them are faster",
                 place.batch, place.batch == 1 ? "" : "s"));
  const Gpu* const gpu = place.gpu;
  if (gpu == nullptr) {
    why.push_back("of this GPU only the memory is known; --gpu also tells what it computes natively");
    if (place.memory <= kSmallCard || !many) return {"INT4"};
    return {"INT8", "INT4"};
  }
  const GpuGeneration& generation = find_generation(gpu->generation);
  why.push_back(fmt::format("{} ({}) multiplies {} natively", gpu->name, generation.name,
                            fmt::join(generation.native, ", ")));
  if (generation.computes("NVFP4")) return {"NVFP4", "INT4"};
  if (place.memory <= kSmallCard && gpu->kind != "datacenter") {
    why.push_back("24 GB and below: weights of 4 bits leave most of it to the KV cache");
    return {"INT4"};
  }
  if (generation.computes("FP8")) return {"FP8", "INT4"};
  why.push_back("it has no FP8; weights of 4 bits are dequantised to 16 when they are multiplied");
  if (many) return {"INT8", "INT4"};
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

AdviceRow row_of(const ServedModel& model, const Deployment& place, const Precision& precision,
                 const Advice& advice) {
  AdviceRow row{.precision = &precision, .weights = weight_size(model, precision)};
  row.left = static_cast<int64_t>(place.memory) - static_cast<int64_t>(row.weights.bytes);
  for (size_t k = 0; k < kCacheBits.size(); ++k) {
    row.total[k] = row.weights.bytes + advice.activations + advice.cache[k];
    row.fit[k] = fit_of(row.total[k], place.memory);
    row.tokens[k] = longest_context(model, place, row.weights.bytes, kCacheBits[k]);
  }
  return row;
}

/// The first in `order` that as few GPUs as possible hold, with a cache of 16 bits or, second, of 8.
void choose(const std::vector<std::string>& order, const Deployment& place, Advice& advice) {
  for (advice.gpus = 1; advice.gpus <= kMostGpus; advice.gpus *= 2) {
    for (const std::string& name : order) {
      const auto row =
          std::ranges::find_if(advice.rows, [&](const auto& r) { return r.precision->name == name; });
      LATHE_ASSERT(row != advice.rows.end(), "no precision '{}'", name);
      for (size_t bits = 0; bits < 2; ++bits) {
        if (fit_of(row->total[bits] / static_cast<uint64_t>(advice.gpus), place.memory) != Fit::fits)
          continue;
        advice.chosen = static_cast<size_t>(row - advice.rows.begin());
        advice.cache_bits = bits;
        return;
      }
    }
  }
}

void explain(const ServedModel& model, const Deployment& place, Advice& advice) {
  if (!advice.chosen) {
    advice.why.push_back(
        fmt::format("not even {} of these GPUs hold it with 4-bit weights: a shorter --context or a smaller "
                    "--batch",
                    kMostGpus));
    return;
  }
  const AdviceRow& row = advice.rows[*advice.chosen];
  advice.why.push_back(fmt::format(
      "weights {}, KV cache {}, activations {}: {:.1f} % of {}{}", decimal_bytes(row.weights.bytes),
      decimal_bytes(advice.cache[advice.cache_bits]), decimal_bytes(advice.activations),
      100 * static_cast<double>(row.total[advice.cache_bits]) /
          (static_cast<double>(place.memory) * advice.gpus),
      advice.gpus > 1 ? fmt::format("{} x ", advice.gpus) : "", decimal_bytes(place.memory)));
  if (advice.gpus > 1)
    advice.why.push_back(fmt::format("one GPU doesn't hold it: tensor parallelism of {}", advice.gpus));
  if (advice.cache_bits == 1)
    advice.why.push_back(
        fmt::format("a KV cache of 16 bits would take {}: add `kv_cache: {{type: float, bits: 8}}` to "
                    "the recipe, as recipes/kv-fp8.yaml has it",
                    decimal_bytes(advice.cache[0])));
  if (row.weights.group_size != 0)
    advice.why.push_back(
        fmt::format("groups of {} don't divide every linear's input: --set "
                    "rules[0].scheme.group_size={}",
                    row.precision->scheme->group_size, row.weights.group_size));
  if (row.weights.kept > 0)
    advice.why.push_back(fmt::format("{} of {} linears stay in 16 bits: no group divides their inputs",
                                     row.weights.kept, model.linears.size()));
  const AdviceRow& plain = advice.rows.front();
  if (plain.fit[0] == Fit::fits && advice.gpus == 1)
    advice.why.push_back(
        fmt::format("16-bit weights would fit, too ({} in all)", decimal_bytes(plain.total[0])));
}

}  // namespace

std::string decimal_bytes(uint64_t bytes) {
  const auto value = static_cast<double>(bytes);
  return bytes < 1'000'000'000 ? fmt::format("{:.1f} MB", value / 1e6)
                               : fmt::format("{:.2f} GB", value / 1e9);
}

std::string_view name_of(Fit fit) { return fit == Fit::fits ? "fits" : fit == Fit::tight ? "tight" : "no"; }

uint64_t kv_cache_bytes(const ServedModel& model, int64_t context, int64_t batch, int bits) {
  uint64_t values = 0;
  for (const ServedModel::Cache& layer : model.cache) {
    const int64_t tokens = layer.window > 0 ? std::min(layer.window, context) : context;
    values += static_cast<uint64_t>(layer.values) * static_cast<uint64_t>(tokens);
  }
  return values * static_cast<uint64_t>(batch) * static_cast<uint64_t>(bits) / 8;
}

uint64_t activation_bytes(const ServedModel& model, int64_t context, int64_t batch) {
  const int64_t tokens = std::min(kStepTokens, context * batch);
  const int64_t values = 2 * model.hidden + 2 * model.attention + 2 * model.kv + 3 * model.intermediate;
  return static_cast<uint64_t>(tokens * values) * 2 + static_cast<uint64_t>(batch * model.vocabulary) * 4;
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
  }
  for (const ServedModel::Matrix& linear : model.linears) {
    const double weights = static_cast<double>(linear.out) * static_cast<double>(linear.in);
    const bool divides = scheme && scheme->divides(linear.in);
    if (scheme && !divides) ++size.kept;
    bits += weights * (divides ? scheme->bits_per_weight(linear.out, linear.in) : 16);
  }
  size.bytes = static_cast<uint64_t>(std::ceil(bits / 8));
  return size;
}

Advice advise(const ServedModel& model, const Deployment& deployment) {
  Advice advice;
  advice.activations = activation_bytes(model, deployment.context, deployment.batch);
  for (size_t k = 0; k < kCacheBits.size(); ++k)
    advice.cache[k] = kv_cache_bytes(model, deployment.context, deployment.batch, kCacheBits[k]);
  for (const Precision& precision : precisions())
    advice.rows.push_back(row_of(model, deployment, precision, advice));
  const std::vector<std::string> order = order_for(deployment, advice.why);
  choose(order, deployment, advice);
  if (advice.chosen) advice.recipe = recipe_of(*advice.rows[*advice.chosen].precision, deployment.batch);
  explain(model, deployment, advice);
  return advice;
}

}  // namespace lathe
