// Folds and solves, input by input: what happens to a block's weights once an input's statistics are known.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "calib/driver/driver.h"
#include "calib/driver/fold.h"
#include "lib/model/forward.h"
#include "lib/tensor/deferred_checks.h"

namespace lathe {

/// Works on the weights of one block, or of the head, and collects what became of them.
class InputSolver {
 public:
  /// Keeps references to all three.
  InputSolver(const CalibrationJob& job, size_t block_index, BlockWeights& weights);

  /// Indices (into Block::linears) of the linears that read this input and get a solver.
  std::vector<size_t> readers(const Input& input) const;
  /// The same for the linears that must follow a fold into this input: after a norm, those of all experts,
  /// too.
  std::vector<size_t> followers(const Input& input) const;
  /// What transforms, these linears' solvers and the report ask for.
  StatSet needs(const std::vector<size_t>& readers) const;
  /// The Hadamard blocks that these linears' input is observed in, as their weights are solved
  /// (Scheme::hadamard): one for all of them. 0: none.
  int64_t rotation(const std::vector<size_t>& readers) const;
  /// Tokens that their Gram matrix is of at least: kReportTokens where it is the report's alone.
  int64_t gram_tokens(const std::vector<size_t>& readers) const;
  /// Keeps what the report tells of an input, where the job asks for it; `stats` before any fold.
  void describe(const Input& input, const InputStats& stats);
  /// What their solvers and their inputs' grids ask for: what solve() reads.
  StatSet solvers_need(const std::vector<size_t>& readers) const;
  /// Folds along the edges into this input; `stats` are its statistics and become those after the folds.
  /// `folded` hears of each fold that took effect, with the scales that the input's channels were divided by.
  /// `observe_again` is asked for what a fold left unknown and the next transform needs: of the input as it
  /// is then. What solve() needs of that (lost()) is the caller's to observe again before.
  void fold(const Input& input, InputStats& stats, const std::function<void(const at::Tensor&)>& folded,
            const std::function<void(InputStats&)>& observe_again);
  /// Statistics that folds left unknown and solve() needs.
  StatSet lost(const std::vector<size_t>& readers, const InputStats& stats) const {
    return stats.lost & solvers_need(readers);
  }
  /// Leaves the edges into this input as they are; the outcome says why.
  void leave_edges(const Input& input, const std::string& note);
  /// Solves linears that read one input. `event`, where not empty, stands in the outcome of each.
  void solve(const std::vector<size_t>& readers, const InputStats& stats, const std::string& event = "");
  /// The same with the Gram matrix lent to the solvers, where nobody else holds it.
  void solve_sparingly(const std::vector<size_t>& readers, InputStats& stats);
  bool solved(const Linear& linear) const { return state_.solved.contains(linear.name); }
  void set_expert_tokens(std::vector<int64_t> tokens) { outcome_.expert_tokens = std::move(tokens); }
  /// Of this block's statistics, on a GPU; take_outcome() reads what is left.
  DeferredChecks& checks() { return checks_; }
  /// The outcome, its tensors on the CPU. Once, at the end. UserError where a check fails.
  BlockOutcome take_outcome();

 private:
  LinearProblem problem(size_t linear) const;
  SharedInputProblem problem(const std::vector<size_t>& readers, const InputStats& stats) const;
  void solve_each(const std::vector<size_t>& readers, const InputStats& stats, const std::string& event,
                  const std::optional<LentGram>& lent);
  void solve_together(const std::vector<size_t>& linears, const InputStats& stats,
                      const std::optional<LentGram>& lent);
  void keep(const Linear& linear, LinearProblem& solved, SolveResult result, const InputStats& stats);
  void hand_over(const Linear& linear, const at::Tensor& weight, const InputStats& stats);

  struct QueuedLoss {
    size_t place = 0;  // in outcome_.linears
    std::string format;
    DistortionSums sums;
  };

  const CalibrationJob& job_;
  const Block& block_;
  const std::vector<LinearTask>& tasks_;
  BlockWeights& weights_;
  BlockState state_;
  BlockOutcome outcome_;
  DeferredChecks checks_;
  std::vector<DistortionSums> distortions_;        // as outcome_.linears; read at the block's end
  std::vector<WeightHistogramCounts> histograms_;  // likewise
  std::vector<QueuedLoss> format_losses_;
  std::vector<std::pair<Input, InputHistogramCounts>> spreads_;
};

}  // namespace lathe
