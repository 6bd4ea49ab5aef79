// The driver itself on blocks of a large model: what a run takes beside the bound of the device's peak rate.
#pragma once

#include <nlohmann/json.hpp>

#include "tests/bench/calibration/bench_model.h"

namespace lathe::bench {

/// calibrate() as `quantize` calls it, over the model's first four blocks and all samples of its pass:
/// weights from host memory in the checkpoint's dtype, the next block's copied meanwhile; the Hessian of
/// every input, RTN, and the report's output errors. "streaming_seconds" is the same without statistics and
/// solvers. Once with the hidden states on the device, once with them in host memory (on a CPU the two are
/// one). The first of the rounds, in which allocators fill up, is not counted.
nlohmann::json measure_engine(const BenchModel& model, c10::Device device);

}  // namespace lathe::bench
