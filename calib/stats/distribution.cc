#include "calib/stats/distribution.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "calib/stats/rank.h"
#include "lib/base/error.h"
#include "lib/kernels/device/value_bins.cuh"
#include "lib/kernels/value_counts.h"

namespace lathe {
namespace {

using kernels::add_channel_value_counts;
using kernels::add_value_counts;

double middle(int32_t bin, device::BinScale scale) {
  const double low = device::bin_edge(bin, scale), high = device::bin_edge(bin + 1, scale);
  return bin == 0 ? 0 : (low + high) / 2;
}

/// The bin of `counts` in which the running sum reaches `rank`.
template <class Count>
int32_t bin_at_rank(const Count* counts, int64_t bins, int64_t rank) {
  int64_t seen = 0;
  for (int64_t bin = 0; bin < bins; ++bin) {
    seen += counts[bin];
    if (seen >= rank) return static_cast<int32_t>(bin);
  }
  internal_error("rank {} of {} counted values", rank, seen);
}

}  // namespace

double Distribution::largest_magnitude() const { return std::max(std::abs(low), std::abs(high)); }

double Distribution::quantile(double q) const {
  const int64_t rank = rank_of(q, total);
  if (exact()) return values.const_data_ptr<float>()[rank - 1];
  if (rank == 1) return low;
  if (rank == total) return high;
  const int64_t bins = counts.size(1), negative = counts[1].sum().item<int64_t>();
  const int64_t* const table = counts.const_data_ptr<int64_t>();
  double value = 0;
  if (rank > negative) {
    value = middle(bin_at_rank(table, bins, rank - negative), device::kValueBins);
  } else {  // among the negative ones, rank 1 is the largest magnitude
    value = -middle(bin_at_rank(table + bins, bins, negative - rank + 1), device::kValueBins);
  }
  return std::clamp(value, low, high);
}

double Distribution::magnitude_quantile(double q) const {
  const int64_t rank = rank_of(q, total);
  if (exact()) return std::get<0>(values.abs().sort()).const_data_ptr<float>()[rank - 1];
  if (rank == total) return largest_magnitude();
  const at::Tensor magnitudes = counts.sum(0);
  const int32_t bin = bin_at_rank(magnitudes.const_data_ptr<int64_t>(), magnitudes.size(0), rank);
  return std::min(middle(bin, device::kValueBins), largest_magnitude());
}

void DistributionCollector::keep(const std::vector<at::Tensor>& parts, int64_t total) {
  total_ += total;
  if (total_ > Distribution::kExactValues) {
    values_.clear();
  } else {
    values_.insert(values_.end(), parts.begin(), parts.end());
  }
}

void DistributionCollector::observe(const at::Tensor& x) {
  if (!counts_.defined()) counts_ = at::zeros({2, kernels::value_bin_count()}, x.options().dtype(at::kLong));
  add_value_counts(x, counts_);
  const bool small = total_ + x.numel() <= Distribution::kExactValues;
  keep(small ? std::vector{x.flatten().to(at::kFloat, /*non_blocking=*/false, /*copy=*/true)}
             : std::vector<at::Tensor>(),
       x.numel());
}

void DistributionCollector::merge(const DistributionCollector& other) {
  if (!other.counts_.defined()) return;
  counts_ = counts_.defined() ? counts_ + other.counts_.to(counts_.device()) : other.counts_.clone();
  keep(other.values_, other.total_);
}

Distribution DistributionCollector::finish(double low, double high) const {
  LATHE_ASSERT(total_ > 0, "the distribution of no values");
  Distribution result{counts_.cpu(), {}, low, high, total_};
  if (total_ > Distribution::kExactValues) return result;
  std::vector<at::Tensor> parts;
  for (const at::Tensor& part : values_) parts.push_back(part.cpu());
  result.values = std::get<0>(at::cat(parts).sort());
  return result;
}

void ChannelDistributionCollector::observe(const at::Tensor& x) {
  if (!counts_.defined())
    counts_ = at::zeros({x.size(1), kernels::channel_bin_count()}, x.options().dtype(at::kInt));
  add_channel_value_counts(x, counts_);
}

void ChannelDistributionCollector::merge(const ChannelDistributionCollector& other) {
  if (!other.counts_.defined()) return;
  counts_ = counts_.defined() ? counts_ + other.counts_.to(counts_.device()) : other.counts_.clone();
}

ChannelDistribution ChannelDistributionCollector::finish(const at::Tensor& largest) const {
  return {counts_.cpu(), largest.cpu()};
}

at::Tensor ChannelDistribution::magnitude_quantile(double q) const {
  const int64_t width = counts.size(0), bins = counts.size(1);
  const float* const most = largest.const_data_ptr<float>();
  const double end = device::bin_edge(static_cast<int32_t>(bins), device::kChannelBins);
  at::Tensor result = at::empty({width}, counts.options().dtype(at::kFloat));
  const int32_t* const table = counts.const_data_ptr<int32_t>();
  for (int64_t channel = 0; channel < width; ++channel) {
    const int32_t* const row = table + channel * bins;
    int64_t total = 0;
    for (int64_t bin = 0; bin < bins; ++bin) total += row[bin];
    const int64_t rank = rank_of(q, total);
    const int32_t bin = bin_at_rank(row, bins, rank);
    // The last bin holds all that is larger than the sketch reaches, too.
    const bool beyond = bin == bins - 1 && most[channel] >= end;
    const auto value = static_cast<float>(middle(bin, device::kChannelBins));
    result.data_ptr<float>()[channel] =
        rank == total || beyond ? most[channel] : std::min(value, most[channel]);
  }
  return result;
}

}  // namespace lathe
