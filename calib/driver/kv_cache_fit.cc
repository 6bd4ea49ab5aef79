#include "calib/driver/kv_cache_fit.h"

#include <ATen/ATen.h>

#include <array>
#include <cmath>
#include <limits>

#include "lib/base/error.h"
#include "lib/kernels/kvquant.h"
#include "lib/kernels/skvq.h"
#include "lib/numeric/point_clusters.h"
#include "lib/numeric/weighted_kmeans.h"
#include "lib/tensor/aten.h"
#include "lib/tensor/copy_stream.h"

namespace lathe {
namespace {

/// Of the histogram that levels are found in: far finer than 32 levels.
constexpr int64_t kBins = 4096;
/// Channels whose numbers are sorted at a time.
constexpr int64_t kSorted = 64;
/// Of a range's factors: from 1 down to 0.6, tried on so many tokens.
constexpr int kClipSteps = 20;
constexpr float kClipStep = 0.02f;
constexpr int64_t kClipTokens = 4096;

struct Sample {
  at::Tensor keys, values;                // Float [n, channels], FP16 values
  at::Tensor key_weights, value_weights;  // Float [n, channels]
};

/// A share of each channel's numbers, linear between two of them, in FP16. numbers [n, channels]
at::Tensor channel_quantile(const at::Tensor& numbers, double share) {
  std::vector<at::Tensor> parts;
  const double rank = share * static_cast<double>(numbers.size(0) - 1);
  const auto below = static_cast<int64_t>(rank);
  const int64_t above = std::min(below + 1, numbers.size(0) - 1);
  for (const at::Tensor& part : numbers.split(kSorted, 1)) {
    const at::Tensor sorted = std::get<0>(part.t().contiguous().sort(1));
    parts.push_back(
        at::lerp(sorted.select(1, below), sorted.select(1, above), rank - static_cast<double>(below)));
  }
  return at::cat(parts).to(at::kHalf).to(at::kFloat);
}

/// Factor and offset that give the levels the mean and deviation of the numbers that they stand for (Q-Norm).
at::Tensor fit_norm(const at::Tensor& numbers, const at::Tensor& levels) {
  const at::Tensor rounded = levels.take(kernels::kvquant_nearest(numbers, levels)).to(at::kDouble);
  const at::Tensor exact = numbers.to(at::kDouble);
  const double deviation = exact.std(/*unbiased=*/false).item<double>();
  const double factor = deviation / rounded.std(/*unbiased=*/false).item<double>();
  if (!std::isfinite(factor) || factor <= 0) return at::tensor({1.0f, 0.0f});
  const double offset = exact.mean().item<double>() - rounded.mean().item<double>() * factor;
  return at::tensor({static_cast<float>(factor), static_cast<float>(offset)});
}

/// One side's levels. The squared error of a number is that of the scaled one times its range's half,
/// squared.
void fit_kvquant_side(const std::string& side, const kernels::KvQuantScaled& scaled,
                      const at::Tensor& weights, int levels_wanted, bool q_norm, KvCacheQuantizer& cache) {
  const at::Tensor inside =
      scaled.outliers.logical_not().logical_and_((scaled.width > 0).expand_as(scaled.outliers));
  const at::Tensor numbers = scaled.scaled.masked_select(inside);
  const at::Tensor levels =
      fit_levels(numbers, (weights * scaled.width.square()).masked_select(inside), levels_wanted);
  cache.parameters[side + "_levels"] = levels;
  if (q_norm) cache.parameters[side + "_norm"] = fit_norm(numbers, levels);
}

KvCacheQuantizer fit_kvquant(const KvCacheScheme& scheme, const Sample& sample) {
  KvCacheQuantizer cache{scheme};
  const at::Tensor lower = channel_quantile(sample.keys, scheme.outliers / 2);
  const at::Tensor upper = channel_quantile(sample.keys, 1 - scheme.outliers / 2);
  cache.parameters = {{"key_lower", lower}, {"key_upper", upper}};
  fit_kvquant_side("key", kernels::kvquant_by_channel(sample.keys, lower, upper), sample.key_weights,
                   cache_levels(scheme.bits), scheme.q_norm, cache);
  fit_kvquant_side("value", kernels::kvquant_by_token(sample.values, scheme.outliers), sample.value_weights,
                   cache_levels(scheme.value_bits), scheme.q_norm, cache);
  return cache;
}

/// Channels in the order of their clusters by least and largest number (section 3.1 of the paper; the
/// reference's calibration.py, metric minmax), a group for each.
void order_channels(const std::string& side, const at::Tensor& numbers, KvCacheQuantizer& cache) {
  const int64_t channels = numbers.size(1), groups = channels / cache.scheme.group_size;
  const auto [least, largest] = at::aminmax(numbers, 0);
  std::vector<std::array<double, 2>> points;
  for (int64_t c = 0; c < channels; ++c)
    points.push_back({least[c].item<double>(), largest[c].item<double>()});
  const std::vector<int> of = cluster_points(points, static_cast<int>(groups));
  const at::Tensor clusters = at::tensor(of, at::kLong);
  const at::Tensor ends = at::bincount(clusters, {}, groups).cumsum(0);
  cache.parameters[side + "_order"] = clusters.argsort(/*stable=*/true, 0, /*descending=*/false).to(at::kInt);
  cache.parameters[side + "_begins"] = at::cat({at::zeros({1}, at::kLong), ends}).to(at::kInt);
}

/// Each group's factor with the least error of attention's output (section 3.2), by the weights of its
/// numbers' squared errors.
void fit_clips(const std::string& side, const at::Tensor& numbers, const at::Tensor& weights, int levels,
               KvCacheQuantizer& cache) {
  const at::Tensor order = cache.parameters.at(side + "_order").to(at::kLong);
  const at::Tensor begins = cache.parameters.at(side + "_begins");
  const at::Tensor ordered = numbers.slice(0, 0, kClipTokens).index_select(1, order);
  const at::Tensor errors = weights.slice(0, 0, kClipTokens).index_select(1, order);
  std::vector<float> clips;
  for (int64_t g = 0; g + 1 < begins.size(0); ++g) {
    const int64_t begin = begins[g].item<int>(), end = begins[g + 1].item<int>();
    const at::Tensor group = ordered.slice(1, begin, end), weight = errors.slice(1, begin, end);
    double least = std::numeric_limits<double>::infinity();
    float best = 1;
    for (int step = 0; step <= kClipSteps; ++step) {
      const float clip = 1 - kClipStep * static_cast<float>(step);
      const at::Tensor rounded =
          kernels::skvq_group(group.to(at::kHalf), clip, levels, cache.scheme.fp8_scales).to(at::kFloat);
      const double error = (rounded - group).square_().mul_(weight).sum(at::kDouble).item<double>();
      if (error >= least) continue;
      least = error;
      best = clip;
    }
    clips.push_back(best);
  }
  cache.parameters[side + "_clip"] = at::tensor(clips);
}

KvCacheQuantizer fit_skvq(const KvCacheScheme& scheme, const Sample& sample) {
  KvCacheQuantizer cache{scheme};
  order_channels("key", sample.keys, cache);
  order_channels("value", sample.values, cache);
  fit_clips("key", sample.keys, sample.key_weights, cache_levels(scheme.bits), cache);
  fit_clips("value", sample.values, sample.value_weights, cache_levels(scheme.value_bits), cache);
  return cache;
}

at::Tensor even_levels(int count) { return at::linspace(-1, 1, count, at::kFloat); }

}  // namespace

at::Tensor fit_levels(const at::Tensor& numbers, const at::Tensor& weights, int count) {
  const at::Tensor values = numbers.flatten().to(at::kDouble), counts = weights.flatten().to(at::kDouble);
  const at::Tensor bins =
      ((values + 1) * (static_cast<double>(kBins) / 2)).floor_().clamp_(0, kBins - 1).to(at::kLong);
  const at::Tensor sums = at::bincount(bins, counts, kBins),
                   firsts = at::bincount(bins, values * counts, kBins);
  std::vector<WeightedPoint> points;
  for (int64_t bin = 0; bin < kBins; ++bin) {
    const double weight = sums.const_data_ptr<double>()[bin];
    if (weight > 0) points.push_back({firsts.const_data_ptr<double>()[bin] / weight, weight});
  }
  if (points.empty()) return even_levels(count);  // every range is one number: any levels do
  const std::vector<double> levels = weighted_kmeans(points, count);
  return at::tensor(levels, at::kDouble).to(at::kFloat);
}

void KvCacheSample::add(const AttentionInputs& inputs, const CacheSensitivity& sensitivity,
                        const at::Tensor& counted) {
  const at::Tensor& made = inputs.unrotated_keys;  // [b, s, ...]
  const at::Tensor taken =
      counted.defined() ? counted.clone() : at::ones({made.size(0), made.size(1)}, at::kBool);
  taken.slice(1, 0, scheme_.sink).fill_(false);
  // On the CPU, which so knows how many they are.
  const at::Tensor places = taken.flatten().nonzero().flatten().slice(0, 0, kCacheTokens - tokens_);
  const at::Tensor here = made.is_cpu() ? places : queued_copy(places.contiguous(), made.device());
  const auto rows = [&](const at::Tensor& x) {  // [b, s, ...] -> [tokens, all]
    return x.flatten(2).flatten(0, 1).index_select(0, here);
  };
  keys_.push_back(rows(made).to(at::kHalf));
  values_.push_back(rows(inputs.values.transpose(1, 2)).to(at::kHalf));
  key_weights_.push_back(rows(sensitivity.keys));
  value_weights_.push_back(rows(sensitivity.values));
  tokens_ += places.size(0);
}

KvCacheQuantizer KvCacheSample::fit(const KvCacheShape& shape, const std::string& layer) const {
  if (tokens_ == 0)
    user_error(
        "{}: kv_cache: no calibration token behind the first {} (sink): longer samples, or a smaller sink",
        layer, scheme_.sink);
  const auto joined = [](const std::vector<at::Tensor>& parts) {  // without a second copy on a GPU
    std::vector<at::Tensor> here;
    for (const at::Tensor& part : parts) here.push_back(part.cpu());
    return at::cat(here);
  };
  const auto of_channels = [&](const at::Tensor& weights) {  // that may be of heads
    return weights.size(1) == shape.channels() ? weights : weights.repeat_interleave(shape.head_dim, 1);
  };
  const Sample sample{joined(keys_).to(at::kFloat), joined(values_).to(at::kFloat), joined(key_weights_),
                      of_channels(joined(value_weights_))};
  for (const auto& [what, numbers] : {std::pair("keys", sample.keys), {"values", sample.values}}) {
    if (!all_finite(numbers))
      user_error("{}: {} are not finite in FP16; no KV cache holds them", layer, what);
  }
  return scheme_.type == "kvquant" ? fit_kvquant(scheme_, sample) : fit_skvq(scheme_, sample);
}

int64_t kv_cache_fitted_tokens(const KvCacheScheme& scheme, int64_t tokens) {
  return std::min(tokens, scheme.type == "skvq" ? kClipTokens : kCacheTokens);
}

uint64_t kv_cache_fit_bytes(const KvCacheShape& shape, int64_t tokens) {
  // Both sides in FP16 and FP32, their weights, joined and as they came, and scaled numbers with bins in
  // FP64.
  constexpr uint64_t kBytes = 2 * (2 + 2 + 4) + 4 * 4 + 6 * 8;
  constexpr uint64_t kScores = uint64_t{64} << 20;  // of cache_sensitivity()
  return kScores + static_cast<uint64_t>(std::min(tokens, kCacheTokens) * shape.channels()) * kBytes;
}

uint64_t kv_cache_sample_bytes(const KvCacheShape& shape, int64_t tokens) {
  constexpr uint64_t kBytes = 2 * 2 + 4 + 4;  // both sides in FP16, and their weights at the most
  return static_cast<uint64_t>(std::min(tokens, kCacheTokens) * shape.channels()) * kBytes;
}

}  // namespace lathe
