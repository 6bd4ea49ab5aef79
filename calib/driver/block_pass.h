// All of one block, or of the head: sweeps over the samples that observe a slot and move the streams along,
// and between them folds and solves.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "calib/driver/cache_gradients.h"
#include "calib/driver/expert_routes.h"
#include "calib/driver/input_solver.h"
#include "calib/driver/kv_cache_fit.h"
#include "calib/driver/stream.h"
#include "calib/stats/stats_collector.h"

namespace lathe {

class BlockPass {
 public:
  using Progress = std::function<void(std::string_view stage)>;

  /// `weights` are the block's, on the device. `counted`: counted_tokens() of the job. `gradients`: of a job
  /// that wants_cache_gradients(), else null. The streams are moved from the block's input to its output.
  BlockPass(const CalibrationJob& job, size_t index, BlockWeights weights, const RopeTables& rope,
            const at::Tensor& counted, CacheGradients* gradients, Streams& streams);
  BlockPass(const BlockPass&) = delete;
  BlockPass& operator=(const BlockPass&) = delete;

  BlockOutcome run(const Progress& progress);

 private:
  using Produce = std::function<at::Tensor(BlockStream&, RowRange)>;

  static Produce seen_by_solvers(const Produce& produce, int64_t rotation);
  BlockOutcome run_slots(const Progress& progress);
  /// The final norm's output is what lm_head reads; the streams stay where they are.
  BlockOutcome run_head(const Progress& progress);
  void calibrate_experts(const Progress& progress);
  /// A sweep of its own, once q, k and v are what they will be: the largest magnitudes of keys and values.
  void observe_cache();
  /// The same for a cache below 8 bits: what its parameters are fitted to at the block's end, of the first
  /// samples.
  void sample_cache();

  /// One slot: a sweep that makes its values and observes them, then its folds and solves.
  void calibrate(Slot slot, const Produce& produce);
  /// After the slot's sweep: lets weights go that are not used again, for the statistics and their solver.
  void drop_used_weights(Slot slot);
  void drop_readers(Slot slot);
  /// What the folds left unknown: observed a second time, of the values as the linears will read them.
  void observe_lost(Slot slot, const std::vector<at::Tensor>& divisors, InputStats& stats);
  void observe(StatsCollector& collector, bool pair, const Produce& produce, RowRange rows);
  /// Moves the streams out of the block. What the last block puts out is no linear's input: it is checked
  /// here, for a run may end without an evaluation.
  void leave();
  StatsCollector collector_for(StatSet wanted, int64_t width, std::string_view input) const;
  /// Which of the rows' tokens count; undefined: all.
  at::Tensor counted(RowRange rows) const;
  /// How often the rows' tokens count in Gram matrices and mean squares; undefined: once.
  at::Tensor weights(RowRange rows) const;
  void sweep(const std::function<void(RowRange)>& visit) const;
  void for_each_stream(const std::function<void(BlockStream&)>& action);

  const CalibrationJob& job_;
  const Block& block_;
  const RopeTables& rope_;
  const at::Tensor& counted_;
  CacheGradients* gradients_;
  BlockWeights weights_;
  std::optional<BlockWeights>
      original_;  // as loaded, where a stream runs on them; shares what isn't replaced
  InputSolver solver_;
  BlockStream observed_;
  std::optional<BlockStream> reference_;
  std::vector<RowRange> chunks_;
  at::Tensor largest_key_, largest_value_;  // FP32 [kv_heads], on the device; with CalibrationJob::kv_cache
  std::optional<KvCacheSample> cache_sample_;  // with one below 8 bits that is calibrated
  InputStats mlp_in_;                 // before experts: of all tokens, folded; they may fall back to it
  std::vector<at::Tensor> divisors_;  // what folds divided mlp_in's channels by there
  /// Of blocks with experts: each stream's. Checks that are read later hold on to it.
  std::shared_ptr<const ExpertRoutes> routes_, reference_routes_;
};

}  // namespace lathe
