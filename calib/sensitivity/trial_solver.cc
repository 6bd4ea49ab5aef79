#include "calib/sensitivity/trial_solver.h"

#include <algorithm>

#include "lib/base/error.h"
#include "lib/kernels/dequantize.h"

namespace lathe {

TrialSolver::TrialSolver(const ModelGraph& graph, const std::vector<Trial>& trials,
                         const std::vector<TrialGroup>& groups)
    : trials_(trials) {
  for (const TrialGroup& group : groups) {
    for (const size_t linear : group.linears)
      group_of_[graph.part(group.block).linears[linear].name] = &group;
  }
}

StatSet TrialSolver::needs() const {
  StatSet needs{.gram = true};
  for (const Trial& trial : trials_) {
    needs = needs | trial.solver->needs();
    if (trial.activations) needs = needs | trial.activations->needs();
  }
  return needs;
}

uint64_t TrialSolver::scratch_bytes(int64_t rows, int64_t width) const {
  uint64_t most = 0;
  for (const Trial& trial : trials_) most = std::max(most, trial.solver->scratch_bytes(rows, width));
  // The codes of all trials, and their scales, until the block is done.
  return most + static_cast<uint64_t>(rows * width) * 2 * trials_.size();
}

RangeOffers TrialSolver::range_offers() const {
  const auto unused = [](const Trial& trial) { return trial.solver->range_offers() == RangeOffers::unused; };
  return std::ranges::all_of(trials_, unused) ? RangeOffers::unused : RangeOffers::taken;
}

std::vector<SolveResult> TrialSolver::solve(const SharedInputProblem& problem) const {
  std::map<const TrialGroup*, std::vector<size_t>> parts;
  for (size_t i = 0; i < problem.linears.size(); ++i)
    parts[group_of_.at(problem.linears[i].name)].push_back(i);
  std::vector<SolveResult> results(problem.linears.size());
  for (const auto& [group, members] : parts) {
    SharedInputProblem part{.linears = {}, .stats = problem.stats};
    for (const size_t i : members) part.linears.push_back(problem.linears[i]);
    std::vector<SolveResult> answers = try_all(*group, std::move(part));
    for (size_t k = 0; k < members.size(); ++k) results[members[k]] = std::move(answers[k]);
  }
  return results;
}

std::vector<SolveResult> TrialSolver::try_all(const TrialGroup& group, SharedInputProblem problem) const {
  std::vector<SolveResult> first;
  for (const size_t t : group.trials) {
    const Trial& trial = trials_[t];
    for (LinearProblem& linear : problem.linears) {
      linear.scheme = trial.scheme;
      if (trial.solver->range_offers() == RangeOffers::unused) linear.range.reset();
      linear.activations.reset();
      if (trial.activations) linear.activations = trial.activations->scheme;
    }
    std::vector<SolveResult> answers = trial.solver->solve(problem);
    for (size_t k = 0; k < answers.size(); ++k) {
      const LinearProblem& linear = problem.linears[k];
      QuantizedTensor& quantized = answers[k].quantized;
      if (trial.activations)
        quantized.input = quantizer_for(*trial.activations, *problem.stats, linear.scale_dtype, linear.name);
      made_[linear.name].push_back(
          {quantized.cpu(),
           distortion_sums(linear.weight, kernels::dequantized_rows(quantized), problem.stats->gram)});
    }
    if (first.empty()) first = std::move(answers);
  }
  return first;
}

std::map<std::string, std::vector<TrialOutcome>> TrialSolver::take() { return std::exchange(made_, {}); }

}  // namespace lathe
