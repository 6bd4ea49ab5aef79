// What a small error in a linear's outputs costs the model, estimated for every group and candidate from one
// pass back through it. KL between the model's distribution p and that of the changed model is, to second
// order, half the Fisher information in the direction of the change (Kullback 1959, chapter 2.6; Martens,
// arXiv 1412.1193, section 8):
//
//   KL ~ 1/2 E_{y ~ p} [ (sum over tokens t and linears l of g_lt . e_lt)^2 ],  e_lt = dW_l x_lt,
//
// g the gradient of -log p(y) at the linear's output, y one token drawn from p for each position of a row, so
// that no text decides. Tokens' errors count by themselves: products of different ones, whose signs hardly
// agree, are left out, which makes every token a sample; a group's linears go together. That tokens are sent
// to other experts is not seen: the router's choice has no gradient.
//
// Its cost is that of three forward passes and, for each candidate, of one more; KL that is measured by
// running the model costs half of one for each pair of group and candidate, so that this estimate sees many
// times the text.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "calib/driver/loss_passes.h"
#include "calib/sensitivity/sensitivity.h"
#include "calib/sensitivity/trial_solver.h"
#include "lib/activations/activation_store.h"
#include "lib/model/forward.h"

namespace lathe {

/// Of one group under one trial: with all its linears rounded, and with each of them alone.
struct EstimateSums {
  double group = 0;
  std::vector<double> linears;
};

class LossGradients {
 public:
  /// Draws labels for the held-out text and takes their loss back to the output of every block. Keeps a
  /// reference to the job. CheckFailed where logits aren't finite. Looks for cancellation.
  explicit LossGradients(const SensitivityJob& job);

  /// Of groups of one block, which `weights` are, one held-out row at a time: adds to sums[i][k], summed over
  /// tokens, for groups[i] under its trial k. `hidden` [1, length, width]: the row's states at the block's
  /// input, of the model as it is. Columns that a trial's engine quantises count.
  void add(int64_t row, const Block& block, const BlockWeights& weights, const at::Tensor& hidden,
           const std::vector<const TrialGroup*>& groups,
           const std::map<std::string, std::vector<TrialOutcome>>& made,
           std::vector<std::vector<EstimateSums>>& sums);

 private:
  const SensitivityJob& job_;
  LossPasses passes_;
  RopeTables rope_;
  ActivationStore states_;  // block by block, row by row: dL/d(what the block puts out)
};

}  // namespace lathe
