#include "calib/driver/statistics_memory.h"

#include <algorithm>

#include "calib/stats/gram.h"
#include "calib/stats/min_max.h"
#include "calib/stats/stats_collector.h"
#include "calib/stats/token_sample.h"
#include "lib/base/checked.h"
#include "lib/kernels/channel_moments.h"
#include "lib/kernels/value_counts.h"

namespace lathe {
namespace {

constexpr uint64_t kFloat = 4, kDouble = 8;
/// Bytes of counts for the percentiles of a tensor (calib/stats/distribution.h).
constexpr uint64_t kTensorCounts = uint64_t{4} << 20;
/// Values of a channel that are small beside all else: its sums, means and extrema.
constexpr uint64_t kChannelValues = 16;

uint64_t channel_counts(uint64_t width) {
  return width * static_cast<uint64_t>(kernels::channel_bin_count()) * sizeof(int32_t);
}

/// Are ranges of steps kept until many of them are taken together?
bool keeps_steps(const StatSet& wanted) { return wanted.ema_min_max || wanted.step_min_max; }

/// The ranges of each step's groups of channels.
uint64_t step_bytes(int64_t width, int64_t tokens) {
  const int64_t steps = ceil_div(tokens, StatsCollector::kChunkTokens);
  return 2 * static_cast<uint64_t>(steps * (width / step_group(width))) * kFloat;
}

uint64_t sample_bytes(int64_t width) {
  return static_cast<uint64_t>(TokenSample::rows_of(width) * width) * kFloat;
}

}  // namespace

uint64_t collector_bytes(const StatSet& wanted, int64_t width, int64_t tokens, c10::Device device) {
  const auto w = static_cast<uint64_t>(width), all = static_cast<uint64_t>(tokens);
  auto buffered = static_cast<uint64_t>(std::min(tokens, StatsCollector::kChunkTokens));
  if (!device.is_cpu() && (wanted.gram || wanted.cross_gram))
    buffered += static_cast<uint64_t>(std::min(tokens, StatsCollector::kProductTokens));
  const auto sum = static_cast<uint64_t>(gram_sum_bytes(device));
  uint64_t bytes = (wanted.cross_gram ? 2 : 1) * buffered * w * kFloat;
  if (wanted.gram) bytes += w * (w + static_cast<uint64_t>(gram_diagonal_columns(width, device))) / 2 * sum;
  if (wanted.cross_gram) bytes += w * w * sum;
  if (wanted.channel_distribution) bytes += 2 * channel_counts(w);
  if (wanted.distribution) bytes += 2 * kTensorCounts;
  if (wanted.token_min_max) bytes += 4 * all * kFloat;
  if (wanted.sample) bytes += TokenSample::most_held(width) + sample_bytes(width);  // and what is kept of it
  if (wanted.step_min_max) bytes += 2 * step_bytes(width, tokens);                  // parts, and all of them
  if (keeps_steps(wanted)) bytes += 2 * kMostWaitingSteps * w * kFloat;
  return bytes + kChannelValues * w * kDouble;
}

uint64_t collector_scratch_bytes(const StatSet& wanted, int64_t width, c10::Device device) {
  const auto w = static_cast<uint64_t>(width);
  // Steps that waited, stacked, and one end of them in FP64, which is multiplied.
  uint64_t stacked = keeps_steps(wanted) ? 2 * kMostWaitingSteps * w * (kFloat + kDouble) : 0;
  if (!device.is_cpu())  // sums and extents of the chunks that a GPU takes at once
    stacked = std::max(stacked, kernels::kMaxMomentChunks * w * (6 * kDouble + 2 * kFloat));
  if (!wanted.gram && !wanted.cross_gram) return stacked;
  const uint64_t panel = w * static_cast<uint64_t>(gram_panel_columns(width, device));
  const uint64_t product = std::max(panel * kFloat, gram_product_bytes(width, device));
  return std::max(stacked, product + std::min(w * w * kFloat, 2 * panel * kDouble + kGramReturnedBytes));
}

uint64_t statistics_bytes(const StatSet& held, int64_t width, int64_t tokens) {
  const auto w = static_cast<uint64_t>(width);
  uint64_t bytes = ((held.gram ? 1 : 0) + (held.cross_gram ? 1 : 0)) * w * w * kFloat;
  if (held.channel_distribution) bytes += channel_counts(w);
  if (held.distribution) bytes += kTensorCounts;
  if (held.sample) bytes += sample_bytes(width);
  if (held.step_min_max) bytes += step_bytes(width, tokens);
  if (held.token_min_max) bytes += 2 * static_cast<uint64_t>(tokens) * kFloat;
  return bytes + kChannelValues * w * kFloat;
}

}  // namespace lathe
