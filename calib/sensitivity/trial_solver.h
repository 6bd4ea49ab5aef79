// A solver that tries several on the same linears, and keeps what each made.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "calib/sensitivity/sensitivity.h"

namespace lathe {

/// What one trial made of one linear.
struct TrialOutcome {
  QuantizedTensor quantized;  // on the CPU
  DistortionSums sums;
};

/// Every trial of a linear's group, solved for the group's linears that read one input together. The answer
/// is the first trial's; the driver computes nothing with it where it propagates the unquantised model.
class TrialSolver final : public Solver {
 public:
  /// Keeps references.
  TrialSolver(const ModelGraph& graph, const std::vector<Trial>& trials,
              const std::vector<TrialGroup>& groups);

  StatSet needs() const override;
  std::vector<SolveResult> solve(const SharedInputProblem& problem) const override;
  uint64_t scratch_bytes(int64_t rows, int64_t width) const override;
  /// Ranges are those of a linear's first trial: with transforms there is no other.
  RangeOffers range_offers() const override;

  /// By linear, in the order of its group's trials; of all linears since the last call.
  std::map<std::string, std::vector<TrialOutcome>> take();

 private:
  std::vector<SolveResult> try_all(const TrialGroup& group, SharedInputProblem problem) const;

  const std::vector<Trial>& trials_;
  std::map<std::string, const TrialGroup*> group_of_;  // by linear
  mutable std::map<std::string, std::vector<TrialOutcome>> made_;
};

}  // namespace lathe
