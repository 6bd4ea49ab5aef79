// What a KV cache below 8 bits takes from calibration: its parameters, fitted to the keys and values that a
// finished block makes of some of the samples.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "lib/model/cache_sensitivity.h"
#include "lib/numeric/kv_cache.h"

namespace lathe {

/// Tokens that the parameters are fitted to, at most: half of KVQuant's own 16 rows of 2,048. They stand in
/// memory, FP16 with their weights, one block at a time.
inline constexpr int64_t kCacheTokens = 16384;

/// Keys (before rotation) and values of one layer, tokens one below the other: where they are made, until
/// fit() copies them to the CPU.
class KvCacheSample {
 public:
  explicit KvCacheSample(const KvCacheScheme& scheme) : scheme_(scheme) {}

  /// Those of some samples that count (`counted`: Bool [b, s] on the CPU, or undefined: all), but for the
  /// first `sink` tokens of each, which are never rounded. A GPU is not waited for.
  void add(const AttentionInputs& inputs, const CacheSensitivity& sensitivity, const at::Tensor& counted);
  /// The scheme with its parameters. UserError, naming `layer`, where keys or values aren't finite in FP16,
  /// or there is no token behind the sink.
  KvCacheQuantizer fit(const KvCacheShape& shape, const std::string& layer) const;

 private:
  KvCacheScheme scheme_;
  int64_t tokens_ = 0;
  std::vector<at::Tensor> keys_, values_;                // Half [n, channels]
  std::vector<at::Tensor> key_weights_, value_weights_;  // Float [n, channels]; values' or [n, kv_heads]
};

/// Of so many tokens in a sample those that fitting spends its time on: SKVQ tries its factors on the first.
int64_t kv_cache_fitted_tokens(const KvCacheScheme& scheme, int64_t tokens);

/// What a sample of a layer takes on the CPU, with what is made of it while it is fitted.
uint64_t kv_cache_fit_bytes(const KvCacheShape& shape, int64_t tokens);
/// What it takes on a GPU until then.
uint64_t kv_cache_sample_bytes(const KvCacheShape& shape, int64_t tokens);

/// Levels (Float [count], ascending) for scaled numbers between -1 and 1, those of `numbers` (any shape)
/// with weights that are above 0: the least weighted squared error, by weighted_kmeans() of a histogram.
at::Tensor fit_levels(const at::Tensor& numbers, const at::Tensor& weights, int count);

}  // namespace lathe
