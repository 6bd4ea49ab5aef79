// A whole pass: every sample through every block, one block's weights at a time, with and without the
// Hessian.
#pragma once

#include <nlohmann/json.hpp>

#include "tests/bench/calibration/bench_model.h"

namespace lathe::bench {

/// Hidden states stay on the device. Weights are made from their seed block by block, apart from the clock.
/// Each block is run twice over all samples, first alone, then with the Hessian collected; both are timed
/// whole, so that work queued on a GPU overlaps as it would in a run.
nlohmann::json measure_pass(const BenchModel& model, c10::Device device);

}  // namespace lathe::bench
