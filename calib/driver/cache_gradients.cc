#include "calib/driver/cache_gradients.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "calib/driver/counted_tokens.h"
#include "calib/driver/kv_cache_fit.h"
#include "calib/driver/loss_passes.h"
#include "lib/base/error.h"
#include "lib/model/cached_attention.h"

namespace lathe {
namespace {

StoreSpec spec_of(const CalibrationJob& job, int64_t samples, int64_t width) {
  return store_spec(job.cache_gradients, samples, job.ids.size(1), width, job.device);
}

/// [1, length, 2 C]: keys' squares, then values'.
at::Tensor squares_of(const BlockGradient& gradient) {
  return at::cat({gradient.keys.flatten(2), gradient.values.flatten(2)}, 2).square_();
}

}  // namespace

bool wants_cache_gradients(const CalibrationJob& job) {
  return job.kv_cache && job.kv_cache->type == "kvquant" && job.kv_cache->weights == KvCacheWeights::fisher;
}

int64_t cache_sample_rows(const CalibrationJob& job) {
  LATHE_ASSERT(job.kv_cache.has_value(), "a job without a KV cache");
  const at::Tensor counted = counted_tokens(job);
  const int64_t samples = job.ids.size(0), length = job.ids.size(1);
  int64_t tokens = 0, rows = 0;
  while (rows < samples && tokens < kCacheTokens) {
    const int64_t first = std::min(job.kv_cache->sink, length);
    tokens += counted.defined() ? counted[rows].slice(0, first).sum().item<int64_t>() : length - first;
    ++rows;
  }
  return rows;
}

CacheGradientRoom cache_gradient_room(const CalibrationJob& job) {
  const ModelConfig& config = job.graph->config;
  const int64_t rows = cache_sample_rows(job), blocks = static_cast<int64_t>(job.graph->blocks.size());
  // Squares take the place of the hidden states that went into their block.
  return {rows * blocks, rows, std::max(config.hidden_size, 2 * kv_cache_shape(config).channels())};
}

CacheGradients::CacheGradients(const CalibrationJob& job)
    : rows_(cache_sample_rows(job)),
      shape_(kv_cache_shape(job.graph->config)),
      squares_(spec_of(job, cache_gradient_room(job).kept, cache_gradient_room(job).width)) {
  LossPasses passes{.graph = job.graph,
                    .weights = job.weights,
                    .ids = job.ids.narrow(0, 0, rows_),
                    .lengths = job.lengths,
                    .device = job.device,
                    .compute = DType::F32,
                    .cache_gradients = true};
  ActivationStore current(spec_of(job, rows_, job.graph->config.hidden_size));
  pass_loss_back(passes, squares_, current,
                 [](const BlockGradient& gradient, const at::Tensor&) { return squares_of(gradient); });
}

CacheSensitivity CacheGradients::of(size_t block, RowRange rows) {
  const int64_t channels = shape_.channels();
  std::vector<at::Tensor> keys, values;
  for (int64_t row = rows.first; row < rows.end(); ++row) {
    const at::Tensor both = squares_.read({static_cast<int64_t>(block) * rows_ + row, 1});
    keys.push_back(both.narrow(2, 0, channels).clone());
    values.push_back(both.narrow(2, channels, channels).clone());
  }
  const auto joined = [&](const std::vector<at::Tensor>& parts) {
    const at::Tensor all = at::cat(parts);
    return all.view({all.size(0), all.size(1), shape_.heads, shape_.head_dim});
  };
  return {joined(keys), joined(values)};
}

}  // namespace lathe
