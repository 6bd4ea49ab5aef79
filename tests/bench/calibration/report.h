// The results as JSON, and the table that is printed from it.
#pragma once

#include <nlohmann/json.hpp>

#include "tests/bench/calibration/block_bench.h"

namespace lathe::bench {

/// The goal of the forward pass: its linears' operations a second, over those of the products alone; on the
/// CPU those that libtorch's library (MKL, on x86) makes of the same shapes, whoever makes Lathe's.
inline constexpr double kForwardGoal = 0.70;

/// One model's results. Every time in seconds, every rate in GFLOP/s; "cpu_" marks the same from the
/// process's CPU time. Parts are of the forward pass.
nlohmann::json describe(const BenchModel& model, const BlockTimes& times, c10::Device device);

/// Prints what describe(), measure_driver(), measure_pass() or measure_agreement() wrote.
void print_model(const nlohmann::json& model);
void print_run(const nlohmann::json& run);
void print_pass(const nlohmann::json& pass);
void print_engine(const nlohmann::json& engine);
void print_agreement(const nlohmann::json& rows);

/// Of the process (CPU) or of the allocator of the device since the last reset.
uint64_t peak_bytes(c10::Device device);
void reset_peak(c10::Device device);

}  // namespace lathe::bench
