// Measuring a recipe's candidates on its model.
#pragma once

#include <functional>

#include "apps/quantize/estimate/estimate.h"
#include "apps/quantize/mixed/sensitivity_file.h"
#include "apps/quantize/progress.h"
#include "apps/quantize/requests.h"
#include "apps/quantize/run_text.h"
#include "calib/driver/memory_plan.h"

namespace lathe {

/// UserError for a recipe without calibration data.
void check_measurable(const Recipe& recipe);

/// What measuring takes.
struct MeasurementPlan {
  MemoryPlan memory;
  Estimate work;
  RateProbes probes;  // for what comes after
};

/// From headers and the calibration text, before anything is computed. UserError as measure_candidates().
/// `known`: the recipe's text, where it has been read.
MeasurementPlan plan_measurement(const RunRequest& request, const Recipe& recipe, const ModelFolder& model,
                                 const ChoicePlan& plan, const CalibrationSet* known = nullptr);
/// Of what a dry run leaves to be measured, beside its own text.
using PlanMeasuring = std::function<MeasurementPlan(const RunText& text)>;

/// What was measured, and of what and within which plan of the memory.
struct Measured {
  SensitivityTable table;
  CalibrationSet set;  // held-out samples among them
  MemoryPlan memory;
};

/// Reads the calibration text, keeps some samples of it for KL, and measures every group of the plan under
/// its candidates. UserError as read_calibration() and measure_sensitivity(), where no sample is left to
/// calibrate with, and where the request's limits can't be kept.
Measured measure_candidates(const RunRequest& request, const Recipe& recipe, const ModelFolder& model,
                            const ChoicePlan& plan, Progress& progress);

}  // namespace lathe
