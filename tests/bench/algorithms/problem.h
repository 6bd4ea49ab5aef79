// One linear with the statistics of its input, from a seed.
#pragma once

#include "algorithms/algorithm.h"

namespace lathe::bench {

class BenchProblem {
 public:
  /// Weights ~ N(0, 1/in) and inputs of 2 * in tokens, correlated and with a few large channels, as those of
  /// language models are; every statistic is collected.
  BenchProblem(int64_t out, int64_t in, const Scheme& scheme, c10::Device device);
  BenchProblem(const BenchProblem&) = delete;
  BenchProblem& operator=(const BenchProblem&) = delete;

  const SharedInputProblem& shared() const { return shared_; }
  const LinearProblem& linear() const { return shared_.linears.front(); }
  const InputStats& stats() const { return stats_; }
  /// Inputs as those that the statistics are of, [count, in], made anew.
  at::Tensor tokens(int64_t count) const;
  /// Norm to linear.
  const ScaleEdge& edge() const { return edge_; }

 private:
  InputStats stats_;
  SharedInputProblem shared_;
  ScaleEdge edge_;
};

/// The Gram matrix alone, as a calibrated run collects it.
at::Tensor gram_of(const at::Tensor& tokens);

}  // namespace lathe::bench
