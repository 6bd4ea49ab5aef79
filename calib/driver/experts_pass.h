// The experts of a block's sparse MLP: each has inputs of its own, the rows that the router sends to it, and
// so statistics, folds and solves of its own.
//
//   the tokens that the router sends to each expert (ExpertRoutes) are counted
//   for a few experts at a time:   sweep: statistics of their rows of mlp_in  -> solve gate and up of each
//   for a few experts at a time:   sweep: statistics of their mlp_mid         -> fold up -> down, solve down
//
// All sweeps start from the hidden states before the MLP, which stay as they are until every expert is done,
// so nothing but the statistics of the experts at hand is held in memory; the price is that the norm runs
// once more for each sweep. How many are at hand follows from the memory that the job gives them
// (StreamStorage::expert_statistics); results don't. The fold from the norm into all experts comes before
// (BlockPass), on statistics of all tokens, as their columns must carry one scale.
//
// An expert with fewer tokens than the job's floor takes the job's fall-back, and every linear of it says so
// in its events.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "calib/driver/expert_routes.h"
#include "calib/driver/input_solver.h"
#include "calib/driver/stream.h"
#include "calib/stats/stats_collector.h"

namespace lathe {

class ExpertsPass {
 public:
  using Progress = std::function<void(std::string_view stage)>;

  /// Keeps references to all. `reference`: the unquantised model's stream, null where none is carried.
  /// `routes`: the observed stream's, which the reference's rows follow, too. `counted`: counted_tokens()
  /// of the job.
  ExpertsPass(const CalibrationJob& job, const Block& block, InputSolver& solver, const BlockStream& observed,
              const BlockStream* reference, std::shared_ptr<const ExpertRoutes> routes,
              const at::Tensor& counted, const std::vector<RowRange>& chunks);

  /// `all_tokens`: statistics of mlp_in over all tokens, after the folds, for experts that fall back to them.
  /// `divisors`: what those folds divided mlp_in's channels by.
  void run(const InputStats& all_tokens, const std::vector<at::Tensor>& divisors, const Progress& progress);

 private:
  /// One expert in a sweep.
  struct Task {
    int64_t expert = 0;
    std::vector<size_t> readers;
    StatSet wanted;                           // of its collector
    bool all_rows = false;                    // every token's row, not only those sent to it
    std::optional<StatsCollector> collector;  // none where its statistics are known without a sweep
  };
  /// Rows of one chunk in one stream.
  struct Chunk {
    at::Tensor mlp_in;  // [tokens, hidden]
    const BlockStream* stream = nullptr;
  };

  void count_tokens();
  void calibrate(Slot slot, const std::vector<int64_t>& experts, const InputStats& all_tokens);
  Task task(const Input& input, const StatSet& wanted) const;
  void sweep(Slot slot, std::vector<Task>& tasks);
  void observe(Slot slot, Task& task, size_t chunk, const Chunk& observed, const Chunk& reference);
  at::Tensor values(Slot slot, int64_t expert, const Chunk& chunk, const at::Tensor& tokens,
                    bool divide) const;
  void fold(Slot slot, const Task& task, InputStats& stats);
  /// What folds left unknown of some experts' inputs: in one sweep.
  void observe_lost(Slot slot, const std::vector<std::pair<const Task*, InputStats*>>& unknown);
  bool blind(const Task& task) const {
    return below_floor(task.expert) && job_.experts.fallback == ExpertFallback::weight_only;
  }
  InputStats statistics(Slot slot, Task& task, const InputStats& all_tokens) const;
  bool below_floor(int64_t expert) const {
    return tokens_[expert] < job_.experts.min_tokens || tokens_[expert] == 0;
  }
  std::string fallback_note(int64_t expert) const;
  uint64_t statistics_bytes(Slot slot, int64_t expert) const;
  std::vector<std::vector<int64_t>> groups(Slot slot) const;

  const CalibrationJob& job_;
  const Block& block_;
  InputSolver& solver_;
  const BlockStream& observed_;
  const BlockStream* reference_;
  std::shared_ptr<const ExpertRoutes> routes_;
  const at::Tensor& counted_;
  const std::vector<RowRange>& chunks_;
  std::vector<int64_t> tokens_;  // that each expert gets and that count
  std::vector<at::Tensor> divisors_;
};

}  // namespace lathe
