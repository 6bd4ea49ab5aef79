// Folds and solves, input by input: what happens to a block's weights once an input's statistics are known.
#pragma once

#include <functional>
#include <vector>

#include "calib/driver/driver.h"
#include "calib/driver/fold.h"
#include "lib/model/forward.h"

namespace lathe {

/// Works on the weights of one block and collects what became of them.
class InputSolver {
 public:
  /// Keeps references to all three.
  InputSolver(const CalibrationJob& job, size_t block_index, BlockWeights& weights);

  /// Indices (into Block::linears) of the linears that read this slot and get a solver.
  std::vector<size_t> readers(Slot slot) const;
  /// What transforms, these linears' solvers and the report ask for.
  StatSet needs(const std::vector<size_t>& readers) const;
  /// Folds along the edges of the slot, then solves its readers. `folded` hears of each fold that took
  /// effect, with the scales that the slot's channels were divided by.
  void solve(Slot slot, const std::vector<size_t>& readers, InputStats stats,
             const std::function<void(const at::Tensor&)>& folded);
  /// The outcome, its tensors on the CPU. Once, at the end.
  BlockOutcome take_outcome();

 private:
  LinearProblem problem(size_t linear) const;
  SharedInputProblem problem(const std::vector<size_t>& readers, const InputStats& stats) const;
  void fold_edges(Slot slot, const std::vector<size_t>& readers, InputStats& stats,
                  const std::function<void(const at::Tensor&)>& folded);
  void solve_together(const std::vector<size_t>& linears, const InputStats& stats);
  void keep(const Linear& linear, const LinearProblem& solved, SolveResult result, const InputStats& stats);

  const CalibrationJob& job_;
  const Block& block_;
  const std::vector<LinearTask>& tasks_;
  BlockWeights& weights_;
  BlockState state_;
  BlockOutcome outcome_;
};

}  // namespace lathe
