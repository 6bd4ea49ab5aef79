#include "tests/bench/algorithms/problem.h"

#include <ATen/ATen.h>

#include <cmath>

#include "calib/stats/stats_collector.h"

namespace lathe::bench {
namespace {

constexpr uint64_t kSeed = 17;
constexpr int64_t kMixed = 64;  // directions that all channels share
constexpr int64_t kChunk = 2048;

/// What a solver or transform may ask for.
constexpr StatSet kAll{.gram = true, .mean_abs = true, .mean_square = true, .min_max = true};

/// Calls `take` with `tokens` of them, some at a time.
template <class Take>
void for_tokens(int64_t tokens, int64_t in, c10::Device device, const Take& take) {
  const at::Tensor mixing = at::randn({kMixed, in});
  at::Tensor sizes = at::randn({in}).mul_(0.5).exp_();
  sizes.slice(0, 0, in, 97) *= 16;
  for (int64_t token = 0; token < tokens; token += kChunk) {
    const int64_t count = std::min(kChunk, tokens - token);
    at::Tensor x = at::randn({count, in});
    x.addmm_(at::randn({count, kMixed}), mixing, 1, 1 / std::sqrt(static_cast<double>(kMixed)));
    take((x * sizes).to(device));
  }
}

InputStats collect(int64_t in, c10::Device device) {
  StatsCollector collector(kAll, in, device, "bench");
  for_tokens(2 * in, in, device, [&](const at::Tensor& x) { collector.observe(x); });
  return collector.finish();
}

}  // namespace

at::Tensor BenchProblem::tokens(int64_t count) const {
  at::manual_seed(kSeed);
  std::vector<at::Tensor> parts;
  const at::Tensor& weight = linear().weight;
  for_tokens(count, weight.size(1), weight.device(), [&](const at::Tensor& x) { parts.push_back(x); });
  return at::cat(parts);
}

at::Tensor gram_of(const at::Tensor& tokens) {
  StatsCollector collector({.gram = true}, tokens.size(1), tokens.device(), "bench");
  for (const at::Tensor& x : tokens.split(kChunk)) collector.observe(x);
  return collector.finish().gram;
}

BenchProblem::BenchProblem(int64_t out, int64_t in, const Scheme& scheme, c10::Device device) {
  at::manual_seed(kSeed);
  stats_ = collect(in, device);
  const at::Tensor weight = at::randn({out, in}).mul_(1 / std::sqrt(static_cast<double>(in))).to(device);
  shared_.linears.push_back({.name = "bench",
                             .role = LinearRole::o_proj,
                             .weight = weight,
                             .scheme = scheme,
                             .scale_dtype = DType::F16,
                             .range = std::nullopt});
  shared_.stats = &stats_;
  edge_.producer = "norm";
}

}  // namespace lathe::bench
