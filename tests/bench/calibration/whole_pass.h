// A whole pass: every sample through every block, one block's weights at a time, with and without the
// Hessian.
#pragma once

#include <nlohmann/json.hpp>

#include "tests/bench/calibration/bench_model.h"

namespace lathe::bench {

/// What a pass takes at the published peak of an H200 or H100 (SXM) in dense BF16, 989 TFLOP/s.
struct PassBound {
  double forward = 0, gram = 0;  // seconds
  double seconds() const { return forward + gram; }
};
/// All samples of the model's pass through so many of its blocks.
PassBound pass_bound(const BenchModel& model, size_t blocks);

/// The most that forward and Hessian may take, in bounds.
inline constexpr double kBoundGoal = 2.0;

/// Hidden states stay on the device. Weights are made from their seed block by block, apart from the clock.
/// Each block is run twice over all samples, first alone, then with the Hessian collected; both are timed
/// whole, so that work queued on a GPU overlaps as it would in a run.
nlohmann::json measure_pass(const BenchModel& model, c10::Device device);

}  // namespace lathe::bench
