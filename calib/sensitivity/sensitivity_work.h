// What measuring candidates computes, counted from the job alone: FLOPs for the plan, and what its time
// follows from.
#pragma once

#include <vector>

#include "calib/driver/run_work.h"
#include "calib/sensitivity/sensitivity.h"

namespace lathe {

struct SensitivityWork {
  RunWork pass;              // the driver's, on the calibration text; of no solver
  std::vector<Work> trials;  // as SensitivityJob::trials
  Work errors;               // of the weights and outputs that each trial made
  /// Of the held-out text: of the model, of each variant from its block on, and three passes and one for each
  /// trial where the loss is estimated by gradients; and of what checks that.
  ForwardWork held_out;
  double head = 0;           // FLOPs of the model's and all variants' logits
  double probabilities = 0;  // logits whose exponentials are summed

  double flops() const;
};

/// The job needs its ids, and its storage.
SensitivityWork sensitivity_work(const SensitivityJob& job);

}  // namespace lathe
