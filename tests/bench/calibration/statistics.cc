#include "tests/bench/calibration/statistics.h"

#include <ATen/ATen.h>

namespace lathe::bench {

std::vector<StatTensor> tensors_of(const InputStats& stats) {
  std::vector<StatTensor> all = {{"gram", stats.gram, 1e-5},
                                 {"cross_gram", stats.cross_gram, 1e-5},
                                 {"mean_abs", stats.mean_abs, 1e-6},
                                 {"mean_square", stats.mean_square, 1e-6},
                                 {"min_max low", stats.min_max.low},
                                 {"min_max high", stats.min_max.high},
                                 {"ema low", stats.ema_min_max.low, 1e-6},
                                 {"ema high", stats.ema_min_max.high, 1e-6},
                                 {"steps low", stats.step_min_max.low},
                                 {"steps high", stats.step_min_max.high},
                                 {"token low", stats.token_min_max.low},
                                 {"token high", stats.token_min_max.high},
                                 {"outliers", stats.outliers},
                                 {"sample", stats.sample},
                                 {"kurtosis", stats.kurtosis, 1e-5},
                                 {"kurtosis of all", stats.kurtosis_all, 1e-5},
                                 {"channel largest", stats.channel_distribution.largest},
                                 {"channel counts", stats.channel_distribution.counts}};
  if (stats.distribution) all.push_back({"counts", stats.distribution->counts});
  std::erase_if(all, [](const StatTensor& tensor) { return !tensor.values.defined(); });
  return all;
}

void observe(StatsCollector& collector, StatSet set, const at::Tensor& x, const at::Tensor& reference) {
  if (set.cross_gram) {
    collector.observe_pair(x, reference);
  } else {
    collector.observe(x);
  }
}

}  // namespace lathe::bench
