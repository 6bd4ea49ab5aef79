// A job of the driver that rounds every linear to nearest (4 bits, symmetric) and collects the Hessian of
// every input, of all tokens.
#pragma once

#include <memory>
#include <utility>

#include "calib/driver/driver.h"
#include "lib/base/error.h"

namespace lathe::bench {

inline std::unique_ptr<Solver> make_rtn() {
  for (const SolverEntry& entry : solvers()) {
    if (entry.name == "rtn") return entry.make(Options(entry.options));
  }
  internal_error("no solver is called rtn");
}

/// RTN's own report takes the first tokens only.
class EveryHessian : public Solver {
 public:
  explicit EveryHessian(std::unique_ptr<Solver> solver) : solver_(std::move(solver)) {}
  StatSet needs() const override {
    StatSet needs = solver_->needs();
    needs.gram = true;
    return needs;
  }
  std::vector<SolveResult> solve(const SharedInputProblem& problem) const override {
    return solver_->solve(problem);
  }

 private:
  std::unique_ptr<Solver> solver_;
};

/// The graph and the weights are kept by reference; ids are the caller's to fill in.
struct RtnJob {
  RtnJob(const ModelGraph& graph, const WeightSource& weights, c10::Device device, DType compute)
      : solver(std::make_unique<EveryHessian>(make_rtn())) {
    job.graph = &graph;
    job.weights = &weights;
    for (const Block& block : graph.blocks)
      job.tasks.emplace_back(block.linears.size(), LinearTask{solver.get(), Scheme{.group_size = 64}});
    job.device = device;
    job.compute = compute;
  }

  std::unique_ptr<Solver> solver;
  CalibrationJob job;
};

}  // namespace lathe::bench
