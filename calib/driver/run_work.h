// What a calibrated run computes, counted from the job alone: FLOPs for the plan, and what its time follows
// from.
#pragma once

#include <map>
#include <vector>

#include "calib/driver/driver.h"
#include "lib/base/work.h"
#include "lib/model/forward_work.h"

namespace lathe {

struct RunWork {
  ForwardWork forward;  // of all streams, with what is made twice
  double gram =
      0;  // FLOPs of Gram matrices: tokens x width x (width + 1), of two streams 2 x tokens x width^2
  double observed = 0;                    // values that statistics looked at
  std::vector<Work> transforms;           // as CalibrationJob::transforms: scales, and ranges that they offer
  std::map<const Solver*, Work> solvers;  // at the most
  Work errors;                            // of weights and outputs, for the report
  int64_t cache_tokens =
      0;             // of each layer, that a KV cache below 8 bits is fitted to; 0: there is none to fit
  double cache = 0;  // FLOPs of what weights their errors (lib/model/cache_sensitivity.h)
  /// Or of gradients that do (calib/driver/cache_gradients.h): the model there and back, FLOPs of its logits
  /// and of their gradient, and logits whose exponentials are summed.
  ForwardWork cache_gradients;
  double cache_head = 0, cache_probabilities = 0;

  double flops() const;
};

/// The job needs its tasks, transforms and storage, no ids: `samples` rows of `length` tokens, of which
/// `counted` count in statistics. Experts get even shares of them.
RunWork run_work(const CalibrationJob& job, int64_t samples, int64_t length, int64_t counted);

}  // namespace lathe
