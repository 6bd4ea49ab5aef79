// What a calibrated run takes beside a forward pass over the same samples: the driver as `quantize` uses it,
// with RTN (4 bits, symmetric), and the Hessian of every input, of all tokens.
#pragma once

#include <nlohmann/json.hpp>

#include "tests/bench/calibration/bench_model.h"

namespace lathe::bench {

/// The first blocks of the model, `rounds` times a forward pass and a run in turns. Seconds are medians;
/// "ratio" is the median of run over forward, "solve_seconds" what solving and measuring the distortion took
/// of the run.
nlohmann::json measure_driver(const BenchModel& model, c10::Device device, int64_t rounds);

}  // namespace lathe::bench
