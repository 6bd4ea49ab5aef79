// The values of one slot inside a block (attention_out, mlp_mid) between being made and being used.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <vector>

#include "lib/activations/activation_store.h"
#include "lib/model/forward.h"

namespace lathe {

/// They are made and observed in one sweep over the samples and used in the next one, when the linears that
/// read them have been solved. Meanwhile they stand in a store, or, where there is no room for one (mlp_mid
/// is several times as large as the hidden states), they are made a second time from the weights of the
/// first. Either way a fold between the two sweeps divides them, and the values are the same bits.
class InnerValues {
 public:
  /// Makes the values of some rows of hidden states: [count, length, hidden] -> [count, length, width].
  using Make = std::function<at::Tensor(const BlockForward&, const at::Tensor& hidden)>;

  /// Keeps references to all. `store` null: make values again instead of keeping them.
  InnerValues(const ModelConfig& config, const Block& block, const BlockWeights& weights,
              const RopeTables& rope, ActivationStore* store);

  /// Starts a slot, whose values are made from the weights as they are now. The slot before is over.
  void begin(Slot slot, int64_t width, Make make);
  /// First sweep: makes the values of some rows, and keeps them where there is a store.
  at::Tensor make(RowRange rows, const at::Tensor& hidden);
  /// Between the sweeps: use() gives values whose channels are divided by `scales`, FP32 [width] > 0.
  void divide(const at::Tensor& scales) { divisors_.push_back(scales); }
  /// Second sweep, each row once. Where there was no first one, values are made now.
  at::Tensor use(RowRange rows, const at::Tensor& hidden);
  /// Between the sweeps: what use() would give now, as often as asked for.
  at::Tensor peek(RowRange rows, const at::Tensor& hidden) const;
  /// Lets weights and scales of the slot go.
  void end();

 private:
  at::Tensor make_again(const at::Tensor& hidden) const;

  const ModelConfig& config_;
  const Block& block_;
  const BlockWeights& weights_;
  const RopeTables& rope_;
  ActivationStore* store_;
  Make make_;
  bool kept_ = false;                     // the store holds this slot's values
  std::optional<BlockWeights> original_;  // the weights of begin(); shares tensors that were not replaced
  std::vector<at::Tensor> divisors_;
};

}  // namespace lathe
