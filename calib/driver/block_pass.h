// All of one block: sweeps over the samples that observe a slot and move the streams along, and between them
// folds and solves.
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "calib/driver/input_solver.h"
#include "calib/driver/stream.h"

namespace lathe {

class BlockPass {
 public:
  using Progress = std::function<void(std::string_view stage)>;

  /// `weights` are the block's, on the device; they end as those of the quantised block. The stream is
  /// moved from the block's input to its output.
  BlockPass(const CalibrationJob& job, size_t index, BlockWeights weights, const RopeTables& rope,
            Stream& stream);
  BlockPass(const BlockPass&) = delete;
  BlockPass& operator=(const BlockPass&) = delete;

  BlockOutcome run(const Progress& progress);

 private:
  using Produce = std::function<at::Tensor(BlockStream&, RowRange)>;

  /// One slot: a sweep that makes its values and observes them, then its folds and solves. `moves`: the sweep
  /// is needed even where nothing reads its values, because it moves the stream.
  void calibrate(Slot slot, const Produce& produce, bool moves);
  void sweep(const std::function<void(RowRange)>& visit) const;

  const CalibrationJob& job_;
  const Block& block_;
  BlockWeights weights_;
  InputSolver solver_;
  BlockStream stream_;
  std::vector<RowRange> chunks_;
};

}  // namespace lathe
