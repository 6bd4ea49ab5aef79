// A model's own likelihood taken back through it: once through all blocks and once back, block by block, so
// that one block's weights are there at a time and each is read twice. What is kept of a block's gradients is
// the caller's affair.
//
// The loss is -log p(y), summed over the positions of a row, y one token drawn from the model's own
// distribution p at each: gradients of it are those whose squares Fisher's information is the mean of, so
// that no text decides, and KL between the model and a slightly changed one is, to second order, half that
// information in the direction of the change (Martens, arXiv 1412.1193, section 8).
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "lib/activations/activation_store.h"
#include "lib/model/block_gradient.h"
#include "lib/model/graph.h"
#include "lib/model/weight_source.h"

namespace lathe {

struct LossPasses {
  const ModelGraph* graph = nullptr;
  const WeightSource* weights = nullptr;  // in floating point
  at::Tensor ids;                         // Long [rows, length], CPU
  std::vector<int64_t> lengths = {};      // of each row, the valid tokens; empty: all. Padding has no loss
  c10::Device device = c10::Device(c10::kCPU);
  DType compute = DType::F32;
  bool cache_gradients = false;  // BlockGradient::keys and values, too
};

/// What stays of a block and a row in the place of its hidden states: [1, length, at most the store's width],
/// FP32. `after`: dL/d(what the block puts out), [1, length, hidden].
using KeepOfBlock = std::function<at::Tensor(const BlockGradient& gradient, const at::Tensor& after)>;

/// The place of a block's row in `states`.
inline RowRange place_of(const LossPasses& passes, size_t block, int64_t row) {
  return {static_cast<int64_t>(block) * passes.ids.size(0) + row, 1};
}

/// `states`: room for blocks x rows, block by block, of width hidden or more; on the way forward it holds
/// what goes into each block, in the end what was kept. `current`: room for the rows, of width hidden.
/// CheckFailed where logits aren't finite. Looks for cancellation.
void pass_loss_back(const LossPasses& passes, ActivationStore& states, ActivationStore& current,
                    const KeepOfBlock& keep);

}  // namespace lathe
