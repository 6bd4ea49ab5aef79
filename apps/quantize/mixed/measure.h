// Measuring a recipe's candidates on its model.
#pragma once

#include "apps/quantize/mixed/sensitivity_file.h"
#include "apps/quantize/progress.h"
#include "apps/quantize/requests.h"

namespace lathe {

/// Reads the calibration text, keeps some samples of it for KL, and measures every group of the plan under
/// its candidates. UserError as read_calibration() and measure_sensitivity(), where no sample is left to
/// calibrate with, and where the request's limits can't be kept.
SensitivityTable measure_candidates(const RunRequest& request, const Recipe& recipe, const ModelFolder& model,
                                    const ChoicePlan& plan, Progress& progress);

}  // namespace lathe
