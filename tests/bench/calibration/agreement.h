// How far the device's statistics and forward pass are from the CPU's.
#pragma once

#include <nlohmann/json.hpp>

#include "tests/bench/calibration/bench_model.h"

namespace lathe::bench {

/// One row for each tensor of each statistic, and each input dtype: {statistic, tensor, dtype, difference,
/// bound, met}. difference is max |a - b| / max |a| with a from one CPU thread. Where the device is the CPU
/// itself, all threads are compared with one, and nothing may differ.
nlohmann::json measure_agreement(c10::Device device);

}  // namespace lathe::bench
