// Fisher's information of each number that is cached: what KVQuant (Hooper et al. 2024, arXiv 2401.18079,
// section 3.2) weighs rounding errors by where it finds a cache's levels. It is the square of the model's
// loss's gradient with respect to that key (before its rotation) or value, of each token and channel,
//
//   F = (dL / d k_tc)^2,    L = -sum over positions of log p(y),
//
// from one pass of the unquantised model and back (loss_passes.h). All later layers and all queries that see
// the token are in it; lib/model/cache_sensitivity.h, the alternative, ends at the attention's output.
//
// What differs from the paper and its code (SqueezeAILab/KVQuant, gradients/run-fisher.py): y is drawn from
// the model's own distribution, not the text's next token, which makes it the Fisher information itself,
// whose half is KL's second order, and not the empirical one; it is taken at the key as it is cached, behind
// its norm where the family has one.
#pragma once

#include <ATen/core/Tensor.h>

#include "calib/driver/driver.h"
#include "lib/activations/activation_store.h"
#include "lib/model/cache_sensitivity.h"

namespace lathe {

/// Does the job's cache weigh errors by it?
bool wants_cache_gradients(const CalibrationJob& job);

/// The job's first samples that a KV cache below 8 bits is fitted to: as many as hold kCacheTokens that count
/// and come behind the scheme's sink, or all.
int64_t cache_sample_rows(const CalibrationJob& job);

/// Of one job's samples. Both ways through the model are the constructor's, in FP32.
class CacheGradients {
 public:
  /// `wants_cache_gradients(job)`. CheckFailed where logits aren't finite. Looks for cancellation.
  explicit CacheGradients(const CalibrationJob& job);

  /// Squares, of cache_sample_rows() at most: keys and values [count, length, kv_heads, head_dim], FP32, on
  /// the device until the next call.
  CacheSensitivity of(size_t block, RowRange rows);

 private:
  int64_t rows_;
  KvCacheShape shape_;
  ActivationStore squares_;  // keys', then values', of a token; block by block
};

/// Samples' places in it, and how wide they are: what it keeps, and works with while it is made. For whoever
/// places CalibrationJob::cache_gradients.
struct CacheGradientRoom {
  int64_t kept = 0;     // samples that are kept while blocks are worked on
  int64_t passing = 0;  // samples on their way, until then
  int64_t width = 0;
};
CacheGradientRoom cache_gradient_room(const CalibrationJob& job);

}  // namespace lathe
