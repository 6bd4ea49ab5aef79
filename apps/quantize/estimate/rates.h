// How fast this machine does what a run consists of: Lathe's own functions, timed on small random problems
// with the run's shapes and schemes, the median of a few times. Measured anew each time, half a second in
// all, so that they are those of the machine as it is now.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "algorithms/algorithm.h"
#include "calib/stats/stat_set.h"
#include "lib/base/work.h"
#include "lib/model/graph.h"
#include "lib/numeric/ggml_type.h"
#include "lib/numeric/kv_cache.h"

namespace lathe {

/// Where to measure, and in what the forward pass computes.
struct RatePlace {
  c10::Device device = c10::Device(c10::kCPU);
  DType compute = DType::F32;
};

/// Of what all runs do, each a second; 0 where the model isn't run.
struct Rates {
  double products = 0;       // FLOPs of linears
  double attention = 0;      // FLOPs
  double values = 0;         // between products (ForwardWork::values)
  double gram = 0;           // FLOPs of Gram matrices
  double observed = 0;       // values that statistics look at
  double factors = 0;        // FLOPs of a Hessian's factor
  double passes = 0;         // weights made of codes and compared with others
  double probabilities = 0;  // logits summed up
};

/// For a model's shapes and rows of `length` tokens, 0 where the model isn't run; `wanted`: the statistics
/// beside Gram matrices.
Rates measure_rates(const ModelGraph& graph, int64_t length, const StatSet& wanted, const RatePlace& place);

/// How an algorithm spends its time: on products and factors, each as long as `share` of what Rates say (less
/// than 1 where a search gives candidates up), and on its own roundings.
struct AlgorithmRate {
  double share = 1;
  double rounding = 0;  // seconds each

  double seconds(const Work& work, const Rates& rates) const;
};

/// A solver on a rule's scheme, for inputs of `width` channels.
AlgorithmRate measure_solver(const Solver& solver, const Scheme& scheme, int64_t width, const Rates& rates,
                             const RatePlace& place);
/// A transform's fold and range on linears of that scheme; `activations`: of their input.
AlgorithmRate measure_transform(const Transform& transform, const Scheme& scheme,
                                const std::optional<ActivationScheme>& activations, int64_t width,
                                const Rates& rates, const RatePlace& place);
/// One plan's measurements: what several of its estimates ask for is measured once.
class RateProbes {
 public:
  explicit RateProbes(const RatePlace& place) : place_(place) {}

  const RatePlace& place() const { return place_; }
  /// measure_rates(); of one graph.
  const Rates& rates(const ModelGraph& graph, int64_t length, const StatSet& wanted);
  /// measure_solver(), once for all that have the same to do.
  AlgorithmRate solver(const Solver& solver, const Scheme& scheme, int64_t width);

 private:
  RatePlace place_;
  int64_t length_ = -1;  // of rates_; -1: not measured yet
  StatSet wanted_;
  Rates rates_;
  std::map<std::string, AlgorithmRate> solvers_;
};

/// Seconds of fitting one layer's KV cache below 8 bits to `tokens` tokens of rows of `length`: what weights
/// their errors, on `place`, and the fit, on the CPU.
double measure_cache_fit(const KvCacheScheme& scheme, const ModelConfig& config, int64_t length,
                         int64_t tokens, const RatePlace& place);

/// Weights a second that are rounded to blocks of a type.
double measure_blocks(GgmlType type, bool importances);

}  // namespace lathe
