// How much a model loses when one group of its linears is quantised, and nothing else: for every group and
// every candidate scheme the error of the weights, that of the layer's outputs, and what becomes of the
// model's own outputs.
//
// One pass through the model measures all of them. The driver goes through the unquantised model (Propagate::
// reference) and shows each block's linears and their statistics to a solver that tries every candidate
// (TrialSolver). Beside it runs a held-out text, once for each pair of group and candidate that was tried so
// far: such a variant leaves the unquantised model's hidden states at its block, whose weights it replaces
// for that one time, and passes the blocks after it as they are. So no block is read twice, nothing before a
// group is computed again, and at the end each variant's logits stand beside the model's:
//
//   weight error   |W - Q|^2 / |W|^2                              of the group, W with folds applied
//   output error   tr(dW H dW^T) per token, and over tr(W H W^T)   H = X^T X of the driver's own collector
//   KL             mean of KL(model || variant) over held-out tokens, nats; of single linears where asked for
//   Fisher         its second-order estimate from gradients (LossGradients), nats: for many times the text;
//                  where it stands alone, KL of a few groups checks it (checked_groups.h)
//
// KL is quadratic in small changes of the logits, and changes of different groups hardly point the same way,
// so that the KL of several groups is about the sum of theirs: what a budget minimises.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "calib/driver/driver.h"

namespace lathe {

/// A candidate.
struct Trial {
  std::string name;  // for errors
  const Solver* solver = nullptr;
  Scheme scheme;
  std::optional<ActivationTask> activations = std::nullopt;  // of the linear's input
};

/// Linears of one block that get one scheme; or the head, of which KL is measured in any case.
struct TrialGroup {
  size_t block = 0;             // ModelGraph::part()
  std::vector<size_t> linears;  // indices into Block::linears
  std::vector<size_t> trials;   // what is tried on them, indices into SensitivityJob::trials; at least one
};

/// The embedding or the head, whose rows a format rounds one by one.
struct TableGroup {
  std::string tensor;  // "model.embed_tokens.weight"; a tied one is embedding and head
  /// FP32 [n, width] -> what the rows are after rounding; one for each trial.
  std::vector<std::function<at::Tensor(const at::Tensor&)>> roundings;
};

struct SensitivityJob {
  /// Model, calibration ids, device and storage. Tasks and propagation are this measurement's own. With
  /// transforms every group has one trial, which they choose for; the model that variants leave is the
  /// transformed one then, which computes the same but for how folded norms, biases and kept weights round.
  CalibrationJob calibration;
  std::vector<Trial> trials;
  std::vector<TrialGroup> groups;
  std::vector<TableGroup> tables;
  at::Tensor held_out;                    // Long [rows, length], CPU
  std::vector<int64_t> held_out_lengths;  // as CalibrationJob::lengths
  bool measure_kl = true;                 // of blocks' groups; of tables and the head it is in any case
  bool estimate = true;                   // by Fisher's information
  /// Without measure_kl: groups (indices, rising) whose KL is measured all the same, on a part of the
  /// held-out text (calib/sensitivity/checked_groups.h), beside the estimate that it checks.
  std::vector<size_t> checked = {};
  /// Where KL of a group is measured, that of each of its linears alone is, too.
  bool linear_kl = false;
  HiddenStorage variants;   // where their hidden states stand: variant_states() of them
  HiddenStorage checks;     // the same of those that checking_job() runs
  HiddenStorage gradients;  // where the loss's gradients stand: gradient_states() of them
};

/// Of one linear under one trial; an expert's outputs are those of the tokens that it gets.
struct LinearLoss {
  double weight_mse = 0;                        // |W - Q|^2 / number of weights
  double output_error = 0;                      // tr(dW H dW^T) per token
  double output_relative_error = 0;             // over tr(W H W^T)
  std::optional<double> fisher = std::nullopt;  // as GroupLoss's, of this linear alone,
  std::optional<double> kl = std::nullopt;      // and so is this
};

/// Of one group under one trial.
struct GroupLoss {
  double weight_mse = 0;           // |W - Q|^2 / number of weights
  double weight_relative_mse = 0;  // |W - Q|^2 / |W|^2
  /// Summed over the group's linears, of an expert times the share of tokens that it gets; none of tables.
  std::optional<double> output_error, output_relative_error;
  /// Nats, means over held-out tokens; what wasn't asked for isn't there, and there is no estimate of tables
  /// and the head.
  std::optional<double> kl, fisher;
  std::vector<LinearLoss> linears = {};  // in the group's order; none of tables
};

struct SensitivityResult {
  std::vector<std::vector<GroupLoss>> groups;  // as SensitivityJob::groups and their trials
  std::vector<std::vector<GroupLoss>> tables;  // as SensitivityJob::tables and their roundings
  int64_t tokens = 0;                          // that KL and its estimate are the mean of, and
  int64_t checked_tokens = 0;                  // KL of SensitivityJob::checked
};

/// The part of the model that a group belongs to.
const Block& part_of(const SensitivityJob& job, const TrialGroup& group);
bool is_head(const SensitivityJob& job, const TrialGroup& group);

/// The job that the driver runs, without its solver: for whoever plans its memory. Linears that are tried
/// have `solver`.
CalibrationJob trial_job(const SensitivityJob& job, const Solver& solver);

/// What of a group, whose KL is measured, is rounded in each variant under one trial, as indices into
/// Block::linears: all of it, and with linear_kl then each linear by itself, where there are several.
std::vector<std::vector<size_t>> variants_of(const SensitivityJob& job, const TrialGroup& group);

/// Samples whose hidden states stand beside the driver's: those of the held-out text and of every variant.
int64_t variant_states(const SensitivityJob& job);

/// Samples whose gradients stand beside them; none without an estimate.
int64_t gradient_states(const SensitivityJob& job);

/// What the estimate works with at a time, at most, on the job's device: one row's pass through a block with
/// all that its derivative needs, and a linear's rounded weight. None without an estimate.
uint64_t gradient_work_bytes(const SensitivityJob& job);

/// Runs the job. `progress` may be empty. UserError as calibrate(). Looks for cancellation.
SensitivityResult measure_sensitivity(
    const SensitivityJob& job,
    const std::function<void(int64_t done, int64_t total, std::string_view)>& progress);

}  // namespace lathe
