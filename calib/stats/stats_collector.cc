#include "calib/stats/stats_collector.h"

#include <ATen/ATen.h>

#include <cmath>
#include <utility>

#include "lib/base/error.h"
#include "lib/kernels/channel_moments.h"
#include "lib/kernels/value_counts.h"

namespace lathe {
namespace {

constexpr const char* kStream = "activation";
constexpr const char* kReferenceStream = "reference activation";

/// Indices of the tokens that count, Long on the CPU.
at::Tensor indices_of(const at::Tensor& mask) { return mask.reshape({-1}).cpu().nonzero().view({-1}); }

/// Ascending indices, shifted by `offset`, as runs.
void add_runs(TokenRuns& runs, const at::Tensor& indices, int64_t offset) {
  const int64_t* const index = indices.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < indices.size(0); ++i) runs.add(offset + index[i], 1);
}

/// bad + row * width, where there is something bad.
at::Tensor moved(const at::Tensor& bad, int64_t elements) {
  return at::where(bad == kernels::kNoneBad, bad, bad + elements);
}

}  // namespace

StatsCollector::StatsCollector(StatSet wanted, int64_t width, c10::Device device, std::string where,
                               TokenNamer name_token)
    : wanted_(wanted),
      width_(width),
      device_(device),
      where_(std::move(where)),
      name_token_(std::move(name_token)),
      sums_(wanted) {
  if (wanted.gram) gram_.emplace(width, device);
  if (wanted.cross_gram) cross_gram_.emplace(width, device);
  if (wanted.distribution) distribution_.emplace();
  if (wanted.channel_distribution) channel_distribution_.emplace();
}

void StatsCollector::observe(const at::Tensor& x, const at::Tensor& mask, const at::Tensor& weights) {
  LATHE_ASSERT(!wanted_.cross_gram, "{}: the reference stream is missing", where_);
  chunker_.push(counted_rows(x, {}, mask, weights), [this](const ObservedRows& chunk) { take(chunk); });
}

void StatsCollector::observe_pair(const at::Tensor& x, const at::Tensor& reference, const at::Tensor& mask,
                                  const at::Tensor& weights) {
  LATHE_ASSERT(reference.sizes() == x.sizes() && reference.scalar_type() == x.scalar_type(),
               "{}: the reference stream is of another shape or type", where_);
  chunker_.push(counted_rows(x, wanted_.cross_gram ? reference : at::Tensor(), mask, weights),
                [this](const ObservedRows& chunk) { take(chunk); });
}

ObservedRows StatsCollector::counted_rows(const at::Tensor& x, const at::Tensor& reference,
                                          const at::Tensor& mask, const at::Tensor& weights) {
  LATHE_ASSERT(
      x.dim() >= 1 && x.size(-1) == width_ && x.device() == device_ &&
          (x.scalar_type() == at::kFloat || x.scalar_type() == at::kHalf || x.scalar_type() == at::kBFloat16),
      "{}: observed {} channels of {} on {}, expected {} of Float, Half or BFloat16", where_, x.size(-1),
      c10::toString(x.scalar_type()), x.device().str(), width_);
  const auto matrix = [&](const at::Tensor& values) {
    if (!values.defined()) return values;
    const at::Tensor rows = values.reshape({-1, width_}).contiguous();
    return rows.is_cpu() ? rows.to(at::kFloat) : rows;
  };
  ObservedRows rows{matrix(x), matrix(reference), weights.defined() ? weights.reshape({-1}) : weights};
  const int64_t count = rows.count(), first = seen_;
  LATHE_ASSERT((!mask.defined() || (mask.numel() == count && mask.scalar_type() == at::kBool)) &&
                   (!weights.defined() || (weights.numel() == count && weights.scalar_type() == at::kFloat)),
               "{}: mask or weights don't fit {} tokens", where_, count);
  seen_ += count;
  if (!mask.defined()) {
    runs_.add(first, count);
    return rows;
  }
  const at::Tensor indices = indices_of(mask);
  add_runs(runs_, indices, first);
  if (indices.size(0) == count) return rows;
  const at::Tensor moved_indices = indices.to(device_, /*non_blocking=*/true);
  const auto select = [&](const at::Tensor& values) {
    return values.defined() ? values.index_select(0, moved_indices.to(values.device())) : values;
  };
  return {select(rows.x), select(rows.reference), select(rows.weights)};
}

bool StatsCollector::needs_range() const { return wanted_.min_max || wanted_.distribution; }

void StatsCollector::take(const ObservedRows& chunk) {
  const kernels::ChannelMoments moments =
      kernels::channel_moments(chunk.x, ChannelSumsCollector::wanted(wanted_));
  check(moments.bad, chunk, kStream);
  if (chunk.reference.defined())
    check(kernels::channel_moments(chunk.reference, {}).bad, chunk, kReferenceStream);
  sums_.observe(moments);
  if (needs_range()) range_.observe(moments);
  if (wanted_.ema_min_max) ema_.observe(moments);
  if (wanted_.token_min_max) {
    const kernels::RowExtent extent = kernels::row_extent(chunk.x);
    token_low_.push_back(extent.low);
    token_high_.push_back(extent.high);
  }
  if (distribution_) distribution_->observe(chunk.x);
  if (channel_distribution_) channel_distribution_->observe(chunk.x);
  const at::Tensor weights = chunk.weights.defined() ? chunk.weights.to(device_) : chunk.weights;
  if (gram_) gram_->observe(chunk.x, weights);
  if (cross_gram_) cross_gram_->observe(chunk.x, chunk.reference, weights);
  if (weights.defined()) {
    const at::Tensor sum = weights.sum(at::kDouble);
    weight_sum_ = weight_sum_.defined() ? weight_sum_ + sum : sum;
  }
  taken_ += chunk.count();
}

void StatsCollector::check(const at::Tensor& bad, const ObservedRows& chunk, const char* stream) {
  if (!bad.is_cpu()) {
    const at::Tensor place = moved(bad, taken_ * width_);
    bad_ = bad_.defined() ? at::minimum(bad_, place) : place;
    return;
  }
  const int64_t element = bad.item<int64_t>();
  if (element == kernels::kNoneBad) return;
  const at::Tensor& values = stream == kStream ? chunk.x : chunk.reference;
  refuse(taken_ + element / width_, element % width_, stream, values.view({-1})[element].item<float>());
}

void StatsCollector::refuse(int64_t row, int64_t channel, const char* stream,
                            std::optional<float> value) const {
  const int64_t token = runs_.token_of(row);
  const std::string name = name_token_ ? name_token_(token) : fmt::format("token {}", token);
  if (value && std::isfinite(*value)) {
    user_error(
        "{}: the {} of {}, channel {} is {:g}, so large that its square overflows FP32 sums; the checkpoint "
        "is damaged or not of the model that config.json describes",
        where_, stream, name, channel, *value);
  }
  user_error(
      "{}: the {} of {}, channel {} is {}; the checkpoint's weights are damaged or overflow in the forward "
      "pass",
      where_, stream, name, channel,
      value ? fmt::format("{}", *value) : "NaN, infinite or beyond 2^58 in magnitude");
}

void StatsCollector::flush() {
  const ObservedRows rest = chunker_.pending();
  chunker_.clear();
  if (rest.count() > 0) take(rest);
}

void StatsCollector::merge(StatsCollector& other) {
  LATHE_ASSERT(width_ == other.width_ && wanted_ == other.wanted_, "{} and {} collect different statistics",
               where_, other.where_);
  flush();
  range_.merge(other.range_);
  ema_.merge(other.ema_);
  sums_.merge(other.sums_);
  if (gram_) gram_->merge(*other.gram_);
  if (cross_gram_) cross_gram_->merge(*other.cross_gram_);
  if (distribution_) distribution_->merge(*other.distribution_);
  if (channel_distribution_) channel_distribution_->merge(*other.channel_distribution_);
  for (const at::Tensor& low : other.token_low_) token_low_.push_back(low.to(device_));
  for (const at::Tensor& high : other.token_high_) token_high_.push_back(high.to(device_));
  if (other.weight_sum_.defined()) {
    const at::Tensor sum = other.weight_sum_.to(device_);
    weight_sum_ = weight_sum_.defined() ? weight_sum_ + sum : sum;
  }
  if (other.bad_.defined()) {
    const at::Tensor place = moved(other.bad_.to(device_), taken_ * width_);
    bad_ = bad_.defined() ? at::minimum(bad_, place) : place;
  }
  taken_ += other.taken_;
  runs_.append(other.runs_, seen_);
  seen_ += other.seen_;
  const ObservedRows rest = other.chunker_.pending();
  if (rest.count() > 0) chunker_.push(rest, [this](const ObservedRows& chunk) { take(chunk); });
}

InputStats StatsCollector::finish() {
  LATHE_ASSERT(tokens() > 0, "{}: no token was observed", where_);
  flush();
  if (bad_.defined()) {
    const int64_t element = bad_.item<int64_t>();
    if (element != kernels::kNoneBad) refuse(element / width_, element % width_, kStream, std::nullopt);
  }
  const double factor = 1.0 / static_cast<double>(tokens());
  const double weight = weight_sum_.defined() ? weight_sum_.item<double>() : static_cast<double>(tokens());
  LATHE_ASSERT(weight > 0, "{}: the tokens' weights add up to {}", where_, weight);
  InputStats result;
  result.tokens = tokens();
  if (gram_) result.gram = gram_->finish(1.0 / weight);
  if (cross_gram_) result.cross_gram = cross_gram_->finish(1.0 / weight);
  result.mean_abs = sums_.mean_abs(factor);
  result.mean_square = sums_.mean_square(factor);
  result.outliers = sums_.outliers();
  const ChannelSumsCollector::Kurtosis kurtosis = sums_.kurtosis(factor);
  result.kurtosis = kurtosis.channels;
  result.kurtosis_all = kurtosis.tensor;
  if (wanted_.min_max) result.min_max = range_.finish();
  if (wanted_.ema_min_max) result.ema_min_max = ema_.finish();
  if (wanted_.token_min_max) result.token_min_max = {at::cat(token_low_), at::cat(token_high_)};
  if (distribution_) {
    const MinMax range = grouped(range_.finish(), -1);
    result.distribution = std::make_shared<const Distribution>(
        distribution_->finish(range.low.item<double>(), range.high.item<double>()));
  }
  if (channel_distribution_) result.channel_distribution = channel_distribution_->finish();
  return result;
}

}  // namespace lathe
