#include "calib/stats/stats_collector.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "lib/base/checked.h"
#include "lib/base/error.h"
#include "lib/kernels/channel_moments.h"
#include "lib/kernels/value_counts.h"
#include "lib/tensor/copy_stream.h"

namespace lathe {
namespace {

static_assert(StatsCollector::kChunkTokens == kernels::kMomentChunkRows);

constexpr const char* kStream = "activation";
constexpr const char* kReferenceStream = "reference activation";

/// Indices of the tokens that count, Long on the CPU.
at::Tensor indices_of(const at::Tensor& mask) { return mask.reshape({-1}).cpu().nonzero().view({-1}); }

[[noreturn]] void refuse(const std::string& place, const std::string& value) {
  user_error("{} is {}; the checkpoint's weights are damaged or overflow in the forward pass", place, value);
}

/// Ascending indices, shifted by `offset`, as runs.
void add_runs(TokenRuns& runs, const at::Tensor& indices, int64_t offset) {
  const int64_t* const index = indices.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < indices.size(0); ++i) runs.add(offset + index[i], 1);
}

}  // namespace

std::string StatsCollector::Places::name(int64_t element, const char* stream) const {
  const int64_t token = runs.token_of(element / width);
  const std::string named = name_token ? name_token(token) : fmt::format("token {}", token);
  return fmt::format("{}: the {} of {}, channel {}", where, stream, named, element % width);
}

StatsCollector::StatsCollector(StatSet wanted, int64_t width, c10::Device device, std::string where,
                               TokenNamer name_token)
    : wanted_(wanted),
      width_(width),
      device_(device),
      places_{std::move(where), std::move(name_token), width, {}},
      sums_(wanted, width, device) {
  if (wanted.gram) gram_.emplace(width, device);
  if (wanted.cross_gram) {
    cross_gram_.emplace(width, device);
    reference_.emplace(StatSet{}, width, device);
  }
  if (wanted.distribution) distribution_.emplace();
  if (wanted.channel_distribution) channel_distribution_.emplace();
  if (wanted.sample) sample_.emplace(width);
}

void StatsCollector::observe(const at::Tensor& x, const at::Tensor& mask, const at::Tensor& weights) {
  LATHE_ASSERT(!wanted_.cross_gram, "{}: the reference stream is missing", places_.where);
  observe_rows(counted_rows(x, {}, mask, weights));
}

void StatsCollector::observe_pair(const at::Tensor& x, const at::Tensor& reference, const at::Tensor& mask,
                                  const at::Tensor& weights) {
  LATHE_ASSERT(reference.sizes() == x.sizes() && reference.scalar_type() == x.scalar_type(),
               "{}: the reference stream is of another shape or type", places_.where);
  observe_rows(counted_rows(x, wanted_.cross_gram ? reference : at::Tensor(), mask, weights));
}

void StatsCollector::observe_rows(const ObservedRows& rows) {
  if (rows.weights.defined() && rows.weights.is_cpu() && rows.count() > 0) check_weights(rows.weights);
  // Counts are the same however they are cut: a GPU counts many rows at once faster.
  if (distribution_ && rows.count() > 0) distribution_->observe(rows.x);
  if (channel_distribution_ && rows.count() > 0) channel_distribution_->observe(rows.x);
  if (multiplies_apart()) products_.push(rows, [this](const ObservedRows& part) { multiply(part); });
  chunker_.push(rows, [this](const ObservedRows& chunks) { take(chunks); });
}

ObservedRows StatsCollector::counted_rows(const at::Tensor& x, const at::Tensor& reference,
                                          const at::Tensor& mask, const at::Tensor& weights) {
  LATHE_ASSERT(
      x.dim() >= 1 && x.size(-1) == width_ && x.device() == device_ &&
          (x.scalar_type() == at::kFloat || x.scalar_type() == at::kHalf || x.scalar_type() == at::kBFloat16),
      "{}: observed {} channels of {} on {}, expected {} of Float, Half or BFloat16", places_.where,
      x.size(-1), c10::toString(x.scalar_type()), x.device().str(), width_);
  const auto matrix = [&](const at::Tensor& values) {
    if (!values.defined()) return values;
    const at::Tensor rows = values.reshape({-1, width_}).contiguous();
    return rows.is_cpu() ? rows.to(at::kFloat) : rows;
  };
  ObservedRows rows{matrix(x), matrix(reference), weights.defined() ? weights.reshape({-1}) : weights};
  const int64_t count = rows.count(), first = seen_;
  LATHE_ASSERT((!mask.defined() || (mask.numel() == count && mask.scalar_type() == at::kBool)) &&
                   (!weights.defined() || (weights.numel() == count && weights.scalar_type() == at::kFloat)),
               "{}: mask or weights don't fit {} tokens", places_.where, count);
  seen_ += count;
  if (!mask.defined()) {
    places_.runs.add(first, count);
    return rows;
  }
  const at::Tensor indices = indices_of(mask);
  add_runs(places_.runs, indices, first);
  if (indices.size(0) == count) return rows;
  const at::Tensor moved_indices = queued_copy(indices, device_);
  const auto select = [&](const at::Tensor& values) {
    if (!values.defined()) return values;
    return values.index_select(0, values.is_cpu() ? indices : moved_indices);
  };
  return {select(rows.x), select(rows.reference), select(rows.weights)};
}

void StatsCollector::take(const ObservedRows& rows) {
  const int64_t chunks = ceil_div(rows.count(), kChunkTokens);
  kernels::StepExtrema step;
  if (wanted_.ema_min_max || wanted_.step_min_max) {
    const auto options = at::TensorOptions().dtype(at::kFloat).device(device_);
    step = {at::empty({chunks, width_}, options), at::empty({chunks, width_}, options)};
  }
  sums_.observe(rows.x, step);
  if (sample_) sample_->observe(rows.x);
  if (rows.x.is_cpu()) check(sums_, rows.x, kStream);
  if (reference_) {
    reference_->observe(rows.reference);
    if (rows.x.is_cpu()) check(*reference_, rows.reference, kReferenceStream);
  }
  for (int64_t i = 0; i < chunks && step.low.defined(); ++i) {
    const MinMax of_chunk{step.low[i], step.high[i]};
    if (wanted_.ema_min_max) ema_.observe(of_chunk);
    if (wanted_.step_min_max) steps_.observe(of_chunk);
  }
  if (wanted_.token_min_max) {
    const kernels::RowExtent extent = kernels::row_extent(rows.x);
    token_low_.push_back(extent.low);
    token_high_.push_back(extent.high);
  }
  for (int64_t row = 0; row < rows.count(); row += kChunkTokens) {
    const ObservedRows chunk = rows.slice(row, std::min(row + kChunkTokens, rows.count()));
    if (!multiplies_apart()) multiply(chunk);
    if (chunk.weights.defined()) take_weights(chunk);
  }
}

/// Of one chunk, so that neither its sums nor its scratch depend on how many came together.
void StatsCollector::take_weights(const ObservedRows& chunk) {
  if (wanted_.mean_square) {
    if (!weighted_) weighted_.emplace(StatSet{.mean_square = true}, width_, device_);
    weighted_->observe(weighted_rows(chunk.x, on_device(chunk.weights)).contiguous());
  }
  const at::Tensor sum = chunk.weights.sum(at::kDouble);  // where they stand: on the CPU, of a GPU's run, too
  weight_sum_ = weight_sum_.defined() ? weight_sum_ + sum : sum;
  const at::Tensor low = chunk.weights.amin();
  lowest_weight_ = lowest_weight_.defined() ? at::minimum(lowest_weight_, low) : low;
}

at::Tensor StatsCollector::on_device(const at::Tensor& weights) const {
  const bool here = !weights.defined() || !weights.is_cpu();
  return here ? weights : queued_copy(weights.contiguous(), device_);
}

void StatsCollector::multiply(const ObservedRows& rows) {
  if (multiplied_ >= gram_limit_) return;
  multiplied_ += rows.count();
  if (rows.weights.defined() && gram_limit_ < std::numeric_limits<int64_t>::max()) {
    const at::Tensor sum = rows.weights.sum(at::kDouble);
    multiplied_sum_ = multiplied_sum_.defined() ? multiplied_sum_ + sum : sum;
  }
  const at::Tensor weights = on_device(rows.weights);
  if (gram_) gram_->observe(rows.x, weights);
  if (cross_gram_) cross_gram_->observe(rows.x, rows.reference, weights);
}

double StatsCollector::gram_weight(double all) const {
  if (multiplied_ == tokens()) return all;
  return multiplied_sum_.defined() ? multiplied_sum_.item<double>() : static_cast<double>(multiplied_);
}

void StatsCollector::check_weights(const at::Tensor& weights) const {
  const at::Tensor bad = at::isfinite(weights).logical_and_(weights >= 0).logical_not_();
  if (!bad.any().item<bool>()) return;
  internal_error("{}: a token's weight is {}", places_.where, weights.masked_select(bad)[0].item<float>());
}

void StatsCollector::check(const ChannelSumsCollector& sums, const at::Tensor& rows,
                           const char* stream) const {
  const int64_t element = sums.bad().item<int64_t>();
  if (element == kernels::kNoneBad) return;
  const int64_t row = element / width_ - (sums.rows() - rows.size(0));
  const float found = rows[row][element % width_].item<float>();
  if (!std::isfinite(found))
    refuse(places_.name(element, stream), std::isnan(found) ? "NaN" : fmt::format("{}", found));
  user_error(
      "{} is {:g}, so large that its square overflows FP32 sums; the checkpoint is damaged or not of the "
      "model that config.json describes",
      places_.name(element, stream), found);
}

void StatsCollector::check_later(const ChannelSumsCollector& sums, const char* stream,
                                 DeferredChecks& checks) const {
  checks.add(sums.bad(), [places = places_, stream](int64_t element) {
    if (element != kernels::kNoneBad)
      refuse(places.name(element, stream), "NaN, infinite or beyond 2^58 in magnitude");
  });
}

void StatsCollector::flush() {
  const ObservedRows rest = chunker_.pending();
  chunker_.clear();
  if (rest.count() > 0) take(rest);
  const ObservedRows unmultiplied = products_.pending();
  products_.clear();
  if (unmultiplied.count() > 0) multiply(unmultiplied);
}

void StatsCollector::merge(StatsCollector& other) {
  LATHE_ASSERT(width_ == other.width_ && wanted_ == other.wanted_, "{} and {} collect different statistics",
               places_.where, other.places_.where);
  LATHE_ASSERT(std::max(multiplied_, other.multiplied_) < std::min(gram_limit_, other.gram_limit_),
               "{}: Gram matrices of the first tokens alone don't merge", places_.where);
  multiplied_ += other.multiplied_;
  flush();
  ema_.merge(other.ema_);
  steps_.merge(other.steps_);
  sums_.merge(other.sums_);
  if (reference_) reference_->merge(*other.reference_);
  if (other.weighted_) {
    if (!weighted_) weighted_.emplace(StatSet{.mean_square = true}, width_, device_);
    weighted_->merge(*other.weighted_);
  }
  if (gram_) gram_->merge(*other.gram_);
  if (cross_gram_) cross_gram_->merge(*other.cross_gram_);
  if (distribution_) distribution_->merge(*other.distribution_);
  if (channel_distribution_) channel_distribution_->merge(*other.channel_distribution_);
  if (sample_) sample_->merge(*other.sample_);
  for (const at::Tensor& low : other.token_low_) token_low_.push_back(low.to(device_));
  for (const at::Tensor& high : other.token_high_) token_high_.push_back(high.to(device_));
  if (other.weight_sum_.defined()) {
    const c10::Device place = weight_sum_.defined() ? weight_sum_.device() : other.weight_sum_.device();
    const at::Tensor sum = other.weight_sum_.to(place);
    weight_sum_ = weight_sum_.defined() ? weight_sum_ + sum : sum;
    const at::Tensor low = other.lowest_weight_.to(place);
    lowest_weight_ = lowest_weight_.defined() ? at::minimum(lowest_weight_, low) : low;
  }
  places_.runs.append(other.places_.runs, seen_);
  seen_ += other.seen_;
  const ObservedRows rest = other.chunker_.pending();
  if (rest.count() > 0) chunker_.push(rest, [this](const ObservedRows& chunks) { take(chunks); });
  const ObservedRows unmultiplied = other.products_.pending();
  if (unmultiplied.count() > 0)
    products_.push(unmultiplied, [this](const ObservedRows& part) { multiply(part); });
}

InputStats StatsCollector::finish(DeferredChecks* later) {
  LATHE_ASSERT(tokens() > 0, "{}: no token was observed", places_.where);
  flush();
  if (!device_.is_cpu()) {  // on the CPU every chunk was checked
    DeferredChecks now;
    // Distributions are made on the host, which waits for them anyway, and need finite values.
    const bool waits = later == nullptr || distribution_ || channel_distribution_;
    DeferredChecks& checks = waits ? now : *later;
    check_later(sums_, kStream, checks);
    if (reference_) check_later(*reference_, kReferenceStream, checks);
    now.read();
  }
  const double weight = weight_sum_.defined() ? weight_sum_.item<double>() : static_cast<double>(tokens());
  if (lowest_weight_.defined()) check_weights(lowest_weight_.view({1}));
  LATHE_ASSERT(weight > 0 && std::isfinite(weight), "{}: the tokens' weights add up to {}", places_.where,
               weight);
  InputStats result;
  result.tokens = tokens();
  result.gram_tokens = multiplied_;
  if (gram_) result.gram = gram_->finish(1.0 / gram_weight(weight));
  if (cross_gram_) result.cross_gram = cross_gram_->finish(1.0 / gram_weight(weight));
  result.mean_abs = sums_.mean_abs();
  result.mean_square = weighted_ ? (weighted_->square_sum() / weight).to(at::kFloat) : sums_.mean_square();
  result.outliers = sums_.outliers();
  if (wanted_.kurtosis) {
    const ChannelSumsCollector::Kurtosis kurtosis = sums_.kurtosis();
    result.kurtosis = kurtosis.channels;
    result.kurtosis_all = kurtosis.tensor;
  }
  if (sample_) result.sample = sample_->finish();
  if (wanted_.min_max) result.min_max = sums_.range();
  if (wanted_.ema_min_max) result.ema_min_max = ema_.finish();
  if (wanted_.step_min_max) result.step_min_max = steps_.finish();
  if (wanted_.token_min_max) result.token_min_max = {at::cat(token_low_), at::cat(token_high_)};
  if (distribution_) {
    const MinMax range = grouped(sums_.range(), -1);
    result.distribution = std::make_shared<const Distribution>(
        distribution_->finish(range.low.item<double>(), range.high.item<double>()));
  }
  if (channel_distribution_)
    result.channel_distribution = channel_distribution_->finish(largest_magnitudes(sums_.range()));
  return result;
}

}  // namespace lathe
