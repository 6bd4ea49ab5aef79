// A loss's gradient through one block, by reverse-mode differentiation (libtorch's), and with it what each
// linear read and how the loss feels what it put out: what a second-order estimate of quantisation error
// needs. The forward pass here is BlockForward's in plain ATen operations, which libtorch can differentiate,
// in FP32; a test holds the two together.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "lib/model/forward.h"

namespace lathe {

/// One linear's part in a block's pass: row by row what it read, x [n, in], and dL/d(W x) [n, out], both
/// FP32; `tokens` Long [n]: whose rows they are (all of them, or those that were routed to its expert),
/// counted through the batch.
struct LinearGradient {
  const Linear* linear = nullptr;
  at::Tensor input, gradient, tokens;
};

/// Of one block and some samples.
struct BlockGradient {
  at::Tensor output;  // [b, s, hidden], what BlockForward::run() gives
  at::Tensor hidden;  // dL/d(hidden states at its input), [b, s, hidden]
  /// In the order of the pass; without the router, whose choice has no gradient, and experts that no token
  /// was sent to.
  std::vector<LinearGradient> linears;
  /// Where asked for: dL/d(keys before their rotation) and dL/d(values), as they are cached; [b, s, kv_heads,
  /// head_dim].
  at::Tensor keys, values;
};

/// Of hidden states [b, s, hidden], FP32, and dL/d(output), `gradient`, of the same shape. Weights are the
/// block's, in FP32; inputs and caches are not quantised. Memory: the samples' activations and, where
/// attention is windowed or capped, s^2 scores of each head, several times.
BlockGradient block_gradient(const ModelConfig& config, const Block& block, const BlockWeights& weights,
                             const RopeTables& rope, const at::Tensor& hidden, const at::Tensor& gradient,
                             bool cache = false);

/// What that takes at a time, at most, of any block and one row of `length` tokens: its pass with all that
/// its derivative needs, and a linear's rounded weight.
uint64_t block_gradient_bytes(const ModelGraph& graph, int64_t length);

/// dL/dx of y = rms_norm(x, weight, eps, unit_offset) from dL/dy; [..., width], FP32.
at::Tensor rms_norm_gradient(const at::Tensor& x, const at::Tensor& weight, double eps, bool unit_offset,
                             const at::Tensor& gradient);

}  // namespace lathe
