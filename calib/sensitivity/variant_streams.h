// The held-out text on its way through the model: as the model is, and once for each variant of it.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <vector>

#include "calib/sensitivity/sensitivity.h"
#include "lib/activations/activation_store.h"
#include "lib/model/forward.h"

namespace lathe {

/// Hidden states between two blocks. Stream 0 is the model itself, the others are variants in the order in
/// which they were added. A sample's streams stand side by side in the store, so that its logits and those of
/// many variants are looked at in one walk.
class VariantStreams {
 public:
  /// `variants` may be added. The streams begin with the embeddings; blocks move all of them.
  VariantStreams(const SensitivityJob& job, int64_t variants);

  /// A variant of the embedding, before the first block. `whole`: it is the head, too.
  void add_embedding(const TableGroup& table, size_t rounding, bool whole);
  /// A variant whose head alone is another one: of a table rounded row by row, or quantised.
  void add_head_table(const TableGroup& table, size_t rounding);
  void add_head(const QuantizedTensor& quantized);
  /// A variant that leaves the model's stream in this block, with these weights.
  void add(const Block& block, const BlockWeights& weights);
  /// Moves every other stream through the block; those that add() made in it are past it already.
  void pass(const Block& block, const BlockWeights& weights);
  /// [1, length, width] of the model's own stream, before the block that pass() is called with next.
  at::Tensor model_states(int64_t sample) { return hidden_.read(rows_of(sample, 0, 1)); }
  /// After the last block: mean KL(model || variant) of each variant over the tokens that count, nats.
  /// CheckFailed where logits aren't finite.
  std::vector<double> divergences();
  int64_t tokens() const;

 private:
  /// Another head than the model's, of one variant.
  struct OwnHead {
    int64_t stream;
    std::shared_ptr<const WeightSource> weights;
  };
  void add_own_head(std::shared_ptr<const WeightSource> weights);

  RowRange rows_of(int64_t sample, int64_t first, int64_t count) const {
    return {sample * streams_ + first, count};
  }
  /// The store's rows in pieces that are computed together: each of a chunk at most and within one of the
  /// store's transfers, which are whole chunks from its first row on.
  std::vector<RowRange> moved_together(RowRange rows) const;
  int64_t valid(int64_t sample) const;
  void run(const BlockForward& forward, int64_t first, int64_t count);
  /// Sums over the sample's valid tokens, by stream from 1 on.
  void add_divergences(int64_t sample, std::vector<double>& sums);

  const SensitivityJob& job_;
  const ModelGraph& graph_;
  c10::Device device_;
  int64_t streams_;      // that there is room for
  int64_t live_ = 1;     // that were added
  int64_t settled_ = 1;  // that add() didn't make in the block at hand
  RopeTables rope_;
  ActivationStore hidden_;
  std::vector<OwnHead> heads_;
};

}  // namespace lathe
