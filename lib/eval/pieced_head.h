// A model's head, in pieces of its rows: neither it nor the logits of a position ever stand in memory as a
// whole.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <optional>
#include <string>

#include "lib/activations/rows.h"
#include "lib/model/graph.h"
#include "lib/model/weight_source.h"

namespace lathe {

struct EvalInput {
  const ModelGraph* graph = nullptr;
  const WeightSource* weights = nullptr;
};

/// The name of the head's weight.
std::string head_weight(const ModelGraph& graph);

/// Final norm and head of one model.
class PiecedHead {
 public:
  /// Keeps references to what `input` names. `role`: "model", for errors.
  PiecedHead(const EvalInput& input, std::string role, c10::Device device)
      : graph_(*input.graph), weights_(*input.weights), role_(std::move(role)), device_(device) {}

  /// Before the first piece.
  void open();
  /// Lets the rows go that are loaded.
  void drop() { rows_ = at::Tensor(); }
  /// Rows of the head for these tokens, the only ones that are in memory then.
  void load(RowRange tokens);
  /// Logits [positions, tokens] of the rows that are loaded; states: [1, positions, width], FP32. CheckFailed
  /// where they are not finite.
  at::Tensor logits(const at::Tensor& states) const;
  /// The part of dL/d(normed states), [1, positions, width], that comes from the loaded rows: of what
  /// logits() gave and dL/d(logits), [positions, tokens] both.
  at::Tensor normed_gradient(const at::Tensor& logits, const at::Tensor& gradient) const;
  /// dL/d(states) from dL/d(normed states), [..., width] both.
  at::Tensor states_gradient(const at::Tensor& states, const at::Tensor& normed_gradient) const;

 private:
  at::Tensor tensor(const std::string& name) const { return weights_.load(name).to(device_); }

  const ModelGraph& graph_;
  const WeightSource& weights_;
  std::string role_;
  c10::Device device_;
  at::Tensor norm_, bias_, whole_;
  std::optional<InputQuantizer> input_;  // what the head's input is rounded by
  at::Tensor rows_, row_bias_;           // that are loaded
};

}  // namespace lathe
