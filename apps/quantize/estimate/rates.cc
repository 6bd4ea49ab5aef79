#include "apps/quantize/estimate/rates.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <typeinfo>
#include <vector>

#include "algorithms/inverse_factor.h"
#include "calib/driver/kv_cache_fit.h"
#include "calib/stats/stats_collector.h"
#include "lib/base/clock.h"
#include "lib/base/error.h"
#include "lib/eval/logit_sums.h"
#include "lib/kernels/dequantize.h"
#include "lib/kernels/ggml_quant.h"
#include "lib/kernels/group_quant.h"
#include "lib/kernels/transformer_ops.h"
#include "lib/model/activation.h"
#include "lib/model/attention.h"
#include "lib/model/cache_sensitivity.h"
#include "lib/model/forward.h"
#include "lib/numeric/distortion.h"
#include "lib/tensor/aten.h"
#include "lib/tensor/matrix_product.h"

namespace lathe {
namespace {

/// A probe is repeated for so long, and so often at the least, less often where it is a long one; the first
/// time doesn't count.
constexpr double kProbeSeconds = 0.012, kLongSeconds = 0.03;
constexpr size_t kLeastTimes = 6, kLeastLongTimes = 3, kMostTimes = 25;
/// Where as many took longer than half of the threads would, others have the cores: more tell no more.
constexpr size_t kHopelessTimes = 2;
/// Of matrices that are measured on: larger ones take no other rates, but longer.
constexpr int64_t kWidth = 512, kRows = 128, kTokens = 512;
/// FLOPs of one product, and values of its weight at the most.
constexpr double kProductFlops = 3e8;
constexpr int64_t kProductValues = int64_t{1} << 22;
/// Values of what is only read and written, at the least: threads that wait for each other spin for
/// milliseconds, which beside other programs would be all that a shorter probe sees.
constexpr int64_t kPassValues = int64_t{1} << 21;
constexpr int64_t kHeads = 8;
constexpr uint64_t kSeed = 20;

at::Tensor normal(at::IntArrayRef shape) {
  static at::Generator generator = at::detail::createCPUGenerator(kSeed);
  return at::randn(shape, generator, at::TensorOptions().dtype(at::kFloat));
}

/// Weights and inputs as models have them: some channels are many times as large as others.
at::Tensor random_inputs(int64_t tokens, int64_t width) {
  return normal({tokens, width}) * normal({width}).exp_();
}
at::Tensor random_weight(int64_t rows, int64_t width) {
  return normal({rows, width}) / std::sqrt(static_cast<double>(width));
}

/// How long it takes once. `work` gives a tensor; one number of it is read, so that a GPU is waited for.
template <class F>
double time_once(const F& work) {
  const Stopwatch watch;
  work().flatten()[0].template item<double>();
  return watch.seconds();
}

/// The median of a few times; of the first ones, where they are all above `most`.
template <class F>
double usual_seconds(const F& work, double most = std::numeric_limits<double>::infinity()) {
  std::vector<double> times;
  double sum = 0;
  const auto go_on = [&] {
    if (times.size() == kHopelessTimes && *std::ranges::min_element(times) > most) return false;
    if (sum >= kLongSeconds) return times.size() < kLeastLongTimes;
    return times.size() < kLeastTimes || (sum < kProbeSeconds && times.size() < kMostTimes);
  };
  while (go_on()) sum += times.emplace_back(time_once(work));
  std::ranges::sort(times);
  return times[times.size() / 2];
}

/// The median: the least is what a run never sustains. But threads that wait for each other spin, and where
/// other programs leave them one core between them, a probe takes many times as long, each time: what half of
/// the threads of a CPU would take, each with a core, is never exceeded.
template <class F>
double seconds_of(const F& work) {
  const at::Tensor first = work();  // which touches memory and code
  first.flatten()[0].item<double>();
  const int threads = at::get_num_threads();
  if (threads == 1 || !first.is_cpu()) return usual_seconds(work);
  at::set_num_threads(1);
  const double alone = std::min(time_once(work), time_once(work));
  at::set_num_threads(threads);
  const double most = alone / std::max(1, threads / 2);
  return std::min(usual_seconds(work, most), most);
}

double product_rate(const ModelGraph& graph, int64_t tokens, const RatePlace& place) {
  const Linear* largest = &graph.lm_head();
  for (const Linear& linear : graph.blocks.front().linears)
    if (largest == &graph.lm_head() || linear.out * linear.in > largest->out * largest->in) largest = &linear;
  const int64_t in = std::max<int64_t>(largest->in, 1);
  const int64_t fits = std::min(static_cast<int64_t>(kProductFlops / 2 / static_cast<double>(tokens * in)),
                                kProductValues / in);
  const int64_t out = std::clamp<int64_t>(fits, 1, std::max<int64_t>(largest->out, 1));
  const auto options = at::TensorOptions().dtype(to_scalar_type(place.compute)).device(place.device);
  const at::Tensor x = normal({1, tokens, in}).to(options), weight = random_weight(out, in).to(options);
  return 2 * static_cast<double>(tokens) * static_cast<double>(in * out) /
         seconds_of([&] { return linear_product(x, weight, {}); });
}

double attention_rate(const ModelConfig& config, int64_t tokens, const RatePlace& place) {
  if (config.num_heads == 0) return 1;
  const int64_t repeat = std::max<int64_t>(1, config.num_heads / std::max<int64_t>(1, config.num_kv_heads));
  const int64_t kv = std::max<int64_t>(1, std::min(kHeads, config.num_heads) / repeat);
  const auto options = at::TensorOptions().dtype(to_scalar_type(place.compute)).device(place.device);
  const auto heads = [&](int64_t count) {
    return normal({1, tokens, count, config.head_dim}).to(options).transpose(1, 2);
  };
  const at::Tensor q = heads(kv * repeat), k = heads(kv), v = heads(kv);
  const AttentionRule rule{
      .scale = config.attention_scale, .window = {}, .softcap = config.attention_softcap};
  return 2 * static_cast<double>(kv * repeat * config.head_dim) * static_cast<double>(tokens * (tokens + 1)) /
         seconds_of([&] { return attend(q, k, v, rule); });
}

/// A norm, a gate and a sum.
double value_rate(const ModelConfig& config, int64_t tokens, const RatePlace& place) {
  const int64_t width = std::max<int64_t>(config.hidden_size, 1);
  const at::Tensor rows = normal({tokens, width}).to(place.device);
  const at::Tensor x = rows.repeat({(kPassValues + rows.numel() - 1) / rows.numel(), 1}),
                   weight = at::ones({width}, x.options());
  const kernels::Activation activation = find_activation(config.activation);
  const double seconds = seconds_of([&] {
    const at::Tensor normed = kernels::rms_norm(x, weight, config.rms_norm_eps);
    return kernels::gated_product(activation, normed, x).add_(x);
  });
  return 3 * static_cast<double>(x.numel()) / seconds;
}

double gram_rate(int64_t width, const RatePlace& place) {
  const at::Tensor x = random_inputs(StatsCollector::kChunkTokens, width)
                           .to(at::TensorOptions().dtype(to_scalar_type(place.compute)).device(place.device));
  GramCollector collector(width, place.device);
  const double seconds = seconds_of([&] {
    collector.observe(x);
    return x;
  });
  return static_cast<double>(x.numel()) * static_cast<double>(width + 1) / seconds;
}

double observed_rate(int64_t width, StatSet wanted, const RatePlace& place) {
  wanted.gram = wanted.cross_gram = false;
  const at::Tensor x = random_inputs(StatsCollector::kChunkTokens, width).to(place.device);
  StatsCollector collector(wanted, width, place.device, "rates");
  const double seconds = seconds_of([&] {
    collector.observe(x);
    return x;
  });
  return static_cast<double>(x.numel()) / seconds;
}

double factor_rate(int64_t width, const RatePlace& place) {
  const at::Tensor x = normal({2 * width, width}).to(place.device);
  const at::Tensor gram = matrix_product(x.t(), x) / static_cast<double>(2 * width);
  const auto n = static_cast<double>(width);
  return 2 * n * n * n / 3 / seconds_of([&] { return inverse_factor(gram.clone()).value_or(gram); });
}

/// Codes are made values again, and compared with the weights.
double pass_rate(const RatePlace& place) {
  const Scheme scheme{.bits = 4, .group_size = 64};
  const at::Tensor weight =
      random_weight(kRows, kWidth).to(place.device).repeat({kPassValues / (kRows * kWidth), 1});
  const kernels::GroupParams params =
      kernels::group_params(kernels::group_min_max(weight, scheme), scheme, DType::F16);
  const QuantizedTensor quantized{
      scheme, DType::F16, kernels::group_encode(weight, params, scheme), params.scales, {}};
  return static_cast<double>(weight.numel()) /
         seconds_of([&] { return distortion_sums(weight, kernels::dequantized_rows(quantized), {}).values; });
}

double probability_rate(int64_t vocabulary, const RatePlace& place) {
  const int64_t tokens = std::clamp<int64_t>(vocabulary, 2, 4096), count = 48;
  const auto targets = at::zeros({count}, at::TensorOptions().dtype(at::kLong).device(place.device));
  const at::Tensor logits = normal({count, tokens}).to(place.device), others = logits * 1.01;
  DivergenceSums sums(targets);
  const double seconds = seconds_of([&] {
    sums.add(logits, others, {0, 0});
    return sums.model().sum();
  });
  return 2 * static_cast<double>(logits.numel()) / seconds;
}

/// A width that groups of the scheme divide, as near to kWidth as that allows.
int64_t probed_width(const Scheme& scheme, int64_t width) {
  const int64_t group = scheme.axis == 1 && scheme.group_size > 0 ? scheme.group_size : 1;
  return std::max(std::min(width, kWidth) / group, int64_t{1}) * group;
}

/// Rows that groups of the scheme divide.
int64_t probed_rows(const Scheme& scheme) {
  int64_t group = scheme.axis == 0 && scheme.group_size > 0 ? scheme.group_size : 1;
  if (scheme.scale_grid) group = std::lcm(group, scheme.scale_grid->rows);
  return std::max(kRows / group, int64_t{1}) * group;
}

/// Statistics of random inputs: those that the algorithm asks for.
InputStats random_stats(StatSet wanted, int64_t width, const RatePlace& place) {
  StatsCollector collector(wanted, width, place.device, "rates");
  const at::Tensor x = random_inputs(2 * width, width).to(place.device);
  if (wanted.cross_gram) {
    collector.observe_pair(x, x * 1.01);
  } else {
    collector.observe(x);
  }
  return collector.finish();
}

LinearProblem random_problem(const Scheme& scheme, int64_t width, const RatePlace& place) {
  return {"rates", LinearRole::o_proj, random_weight(probed_rows(scheme), width).to(place.device),
          scheme,  DType::F16,         std::nullopt};
}

/// The widest of the model's inputs, up to kWidth.
int64_t probed_input(const ModelGraph& graph) {
  int64_t widest = 1;
  for (const Block& block : graph.blocks)
    for (const Linear& linear : block.linears) widest = std::max(widest, linear.in);
  return std::min(widest, kWidth);
}

/// KV heads that a probe has: few, but whole groups of channels.
int64_t probed_kv_heads(const ModelConfig& config, int64_t group) {
  const int64_t repeat = std::max<int64_t>(1, config.num_heads / config.num_kv_heads);
  const int64_t few = std::clamp<int64_t>(kHeads / repeat, 1, config.num_kv_heads);
  return few * config.head_dim % std::max<int64_t>(1, group) == 0 ? few : config.num_kv_heads;
}

/// Of one token of one layer, what weights the errors of its keys and values: all heads of it.
double sensitivity_seconds(const ModelConfig& config, int64_t length, const RatePlace& place) {
  const int64_t tokens = std::clamp<int64_t>(length, 1, kTokens);
  const int64_t kv = probed_kv_heads(config, 1), repeat = config.num_heads / config.num_kv_heads;
  const auto heads = [&](int64_t count) {
    return normal({1, tokens, count, config.head_dim}).to(place.device).transpose(1, 2);
  };
  const AttentionInputs inputs{heads(kv * repeat), heads(kv), heads(kv), {}};
  const AttentionRule rule{
      .scale = config.attention_scale, .window = {}, .softcap = config.attention_softcap};
  const RopeTables rope = rope_tables(config, tokens, place.device);
  const double seconds =
      seconds_of([&] { return cache_sensitivity(inputs, rope.cos, rope.sin, rule).values; });
  // Each token's part is as long as its row.
  const double longer = static_cast<double>(std::max(length, tokens)) / static_cast<double>(tokens);
  return seconds / static_cast<double>(tokens) * longer * static_cast<double>(config.num_kv_heads) /
         static_cast<double>(kv);
}

/// Of one layer: what tokens take, and what is the same for any number of them.
double fit_seconds(const KvCacheScheme& scheme, const ModelConfig& config, int64_t tokens) {
  constexpr int64_t kFew = 32, kMore = 288;
  const KvCacheShape shape{probed_kv_heads(config, scheme.group_size), config.head_dim};
  const auto seconds = [&](int64_t count) {
    const auto heads = [&] { return normal({1, count + scheme.sink, shape.heads, shape.head_dim}); };
    const AttentionInputs inputs{{}, {}, heads().transpose(1, 2), heads()};
    KvCacheSample sample(scheme);
    sample.add(inputs, {heads().square_(), heads().select(3, 0).square()}, {});
    return seconds_of([&] { return sample.fit(shape, "rates").parameters.begin()->second.to(at::kFloat); });
  };
  const double few = seconds(kFew), one = std::max(0.0, seconds(kMore) - few) / (kMore - kFew);
  const double heads = static_cast<double>(config.num_kv_heads) / static_cast<double>(shape.heads);
  return few + one * heads * static_cast<double>(kv_cache_fitted_tokens(scheme, tokens));
}

AlgorithmRate rate_of(double seconds, const Work& work, const Rates& rates) {
  const double library = work.products / rates.products + work.factors / rates.factors;
  if (library >= seconds) return {.share = library > 0 ? seconds / library : 1, .rounding = 0};
  return {.share = 1, .rounding = work.roundings > 0 ? (seconds - library) / work.roundings : 0};
}

}  // namespace

double AlgorithmRate::seconds(const Work& work, const Rates& rates) const {
  return share * (work.products / rates.products + work.factors / rates.factors) + rounding * work.roundings;
}

Rates measure_rates(const ModelGraph& graph, int64_t length, const StatSet& wanted, const RatePlace& place) {
  const c10::NoGradGuard no_grad;
  const ModelConfig& config = graph.config;
  const int64_t tokens = length > 0 ? std::min(length, kTokens) : kTokens;
  const int64_t width = probed_input(graph);
  Rates rates{.products = product_rate(graph, tokens, place), .factors = factor_rate(width, place)};
  rates.passes = pass_rate(place);
  if (length == 0 || config.hidden_size == 0) return rates;  // matrices of an unknown family are never run
  rates.attention = attention_rate(config, tokens, place);
  rates.values = value_rate(config, tokens, place);
  rates.gram = gram_rate(width, place);
  rates.observed = observed_rate(width, wanted, place);
  rates.probabilities = probability_rate(config.vocab_size, place);
  return rates;
}

AlgorithmRate measure_solver(const Solver& solver, const Scheme& scheme, int64_t width, const Rates& rates,
                             const RatePlace& place) {
  const c10::NoGradGuard no_grad;
  const int64_t in = probed_width(scheme, width);
  SharedInputProblem problem{.linears = {random_problem(scheme, in, place)}, .stats = nullptr};
  const InputStats stats = random_stats(solver.needs(), in, place);
  problem.stats = &stats;
  const Work work = solver.work({problem.linears.front().weight.size(0)}, in, scheme);
  const double seconds = seconds_of([&] {
    const QuantizedTensor made = solver.solve(problem).front().quantized;
    return made.scheme.has_values() ? made.values : made.codes;
  });
  return rate_of(seconds, work, rates);
}

AlgorithmRate measure_transform(const Transform& transform, const Scheme& scheme,
                                const std::optional<ActivationScheme>& activations, int64_t width,
                                const Rates& rates, const RatePlace& place) {
  const c10::NoGradGuard no_grad;
  const int64_t in = probed_width(scheme, width);
  SharedInputProblem problem{.linears = {random_problem(scheme, in, place)}, .stats = nullptr};
  LinearProblem& linear = problem.linears.front();
  linear.activations = activations;
  const InputStats stats = random_stats(transform.needs(), in, place);
  problem.stats = &stats;
  const ScaleEdge edge{.producer = "rates", .input = {Slot::attention_in, std::nullopt}};
  const int64_t rows = linear.weight.size(0);
  const Work work = transform.fold_work(edge, rows, in) + transform.range_work(linear.role, scheme, rows, in);
  const double seconds = seconds_of([&] {
    const FoldDecision decision = transform.fold(edge, problem);
    const auto range = transform.range(linear, stats);
    return range ? range->lo : decision.scales.defined() ? decision.scales : linear.weight;
  });
  return rate_of(seconds, work, rates);
}

const Rates& RateProbes::rates(const ModelGraph& graph, int64_t length, const StatSet& wanted) {
  if (length != length_) {
    rates_ = measure_rates(graph, length, wanted, place_);
  } else if (wanted != wanted_ && rates_.observed > 0) {
    rates_.observed = observed_rate(probed_input(graph), wanted, place_);
  }
  length_ = length;
  wanted_ = wanted;
  return rates_;
}

AlgorithmRate RateProbes::solver(const Solver& solver, const Scheme& scheme, int64_t width) {
  const Work work = solver.work({probed_rows(scheme)}, width, scheme);
  const std::string what = fmt::format("{} {} {} {} {} {}", typeid(solver).name(), scheme.describe(), width,
                                       work.products, work.factors, work.roundings);
  const auto found = solvers_.find(what);
  if (found != solvers_.end()) return found->second;
  return solvers_.emplace(what, measure_solver(solver, scheme, width, rates_, place_)).first->second;
}

double measure_cache_fit(const KvCacheScheme& scheme, const ModelConfig& config, int64_t length,
                         int64_t tokens, const RatePlace& place) {
  const c10::NoGradGuard no_grad;
  const bool by_attention = scheme.weights == KvCacheWeights::attention;
  return (by_attention ? static_cast<double>(tokens) * sensitivity_seconds(config, length, place) : 0) +
         fit_seconds(scheme, config, tokens);
}

double measure_blocks(GgmlType type, bool importances) {
  const int64_t rows = 16, width = kWidth;
  const at::Tensor weight = random_weight(rows, width);
  const at::Tensor importance = importances ? normal({width}).square() : at::Tensor();
  return static_cast<double>(weight.numel()) /
         seconds_of([&] { return kernels::quantize_ggml("rates", weight, type, importance); });
}

}  // namespace lathe
