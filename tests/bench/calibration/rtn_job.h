// A job of the driver that rounds every linear to nearest (4 bits, symmetric) and whose report wants every
// input's Hessian.
#pragma once

#include <memory>

#include "calib/driver/driver.h"
#include "lib/base/error.h"

namespace lathe::bench {

inline std::unique_ptr<Solver> make_rtn() {
  for (const SolverEntry& entry : solvers()) {
    if (entry.name == "rtn") return entry.make(Options(entry.options));
  }
  internal_error("no solver is called rtn");
}

/// The graph and the weights are kept by reference; ids are the caller's to fill in.
struct RtnJob {
  RtnJob(const ModelGraph& graph, const WeightSource& weights, c10::Device device, DType compute)
      : solver(make_rtn()) {
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
