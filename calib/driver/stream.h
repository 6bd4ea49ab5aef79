// A stream: the hidden states of all samples on their way through the model, and its passage through one
// block.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "calib/driver/driver.h"
#include "calib/driver/inner_values.h"
#include "lib/activations/activation_store.h"
#include "lib/model/forward.h"

namespace lathe {

/// The widest of the values that are kept inside any block (attention_out, mlp_mid).
int64_t inner_width(const ModelGraph& graph);
StoreSpec stream_spec(const HiddenStorage& storage, int64_t samples, int64_t length, int64_t width,
                      DType dtype, c10::Device device);

/// What stays between two blocks.
struct Stream {
  /// Room for the job's samples as its storage says.
  explicit Stream(const CalibrationJob& job);

  ActivationStore hidden;
  std::optional<ActivationStore> inner;  // empty: values inside a block are made twice instead
};

/// The streams of a job.
struct Streams {
  explicit Streams(const CalibrationJob& job);

  Stream observed;                  // statistics are taken of its values
  std::optional<Stream> reference;  // the unquantised model's, where a statistic compares with it

  /// Between two blocks: hands over the hidden states, or puts them in place.
  void hand_over(const TakeStates& take);
  void restore(const FillStates& fill);

 private:
  std::vector<ActivationStore*> stores();

  c10::Device device_;
};

/// One stream in one block. Every function takes the rows of one chunk; rows are visited in order. Weights
/// that are set between two sweeps are used by the next.
class BlockStream {
 public:
  BlockStream(const ModelConfig& config, const Block& block, const BlockWeights& weights,
              const RopeTables& rope, Stream& stream);

  at::Tensor attention_in(RowRange rows);  // [count, length, hidden]
  /// The same by another block's weights; until mlp_in() has moved the rows.
  at::Tensor attention_in(RowRange rows, const BlockForward& forward) const;
  void begin_attention_out();
  at::Tensor attention_out(RowRange rows);  // [count, length, heads * head_dim]
  /// Moves the rows over the first residual sum, then gives mlp_in.
  at::Tensor mlp_in(RowRange rows);
  /// After the last rows: nothing of attention is needed again.
  void attention_done() { inner_.end(); }
  void begin_mlp_mid();
  at::Tensor mlp_mid(RowRange rows);  // [count, length, intermediate]
  /// mlp_in of rows that mlp_in() has moved, from the norm as it is now; [count * length, hidden].
  at::Tensor mlp_in_again(RowRange rows) const;
  /// The slot's values of rows that its sweep has made, from the weights as they are now and with the folds
  /// that were told of: before the next sweep.
  at::Tensor again(Slot slot, RowRange rows) const;
  const BlockForward& forward() const { return forward_; }
  /// Moves the rows over the second residual sum, out of the block, and gives them: [count, length, hidden].
  /// `routed`: where the router sends them, by expert; empty in a block without experts.
  at::Tensor leave(RowRange rows, const std::vector<Routing::Rows>& routed);

  /// A fold divided the slot's channels by `scales`.
  void folded(Slot slot, const at::Tensor& scales);

 private:
  const Block& block_;
  BlockForward forward_;
  Stream& stream_;
  InnerValues inner_;
};

}  // namespace lathe
