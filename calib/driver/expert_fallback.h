// Statistics of an expert that too few tokens reach, where the recipe asks for those of its weights alone.
#pragma once

#include <cstdint>

#include "calib/driver/driver.h"
#include "calib/stats/input_stats.h"

namespace lathe {

/// What can be said without activations: all channels alike and independent, so that the Gram matrix is a
/// multiple of the identity, an output's error that of the weights, and every channel as important as any
/// other. Extrema and distributions would be invented.
inline constexpr StatSet kWithoutActivations{
    .gram = true, .mean_abs = true, .mean_square = true, .cross_gram = true};

/// Those of `wanted` that can be said, for an input of that width.
InputStats weight_only_statistics(const StatSet& wanted, int64_t width, c10::Device device);

/// UserError where the job's fall-back is weight_only and an expert's solver, or the grid of its input, asks
/// for more than that: whether a token reaches every expert is known only when it is too late.
void check_expert_fallback(const CalibrationJob& job);

}  // namespace lathe
