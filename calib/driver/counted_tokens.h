// Which tokens of a job's samples its statistics are of.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "calib/driver/driver.h"

namespace lathe {

/// Bool [samples, length], CPU: true where a token is neither padding (CalibrationJob::lengths) nor of weight
/// 0 (CalibrationJob::token_weights). Undefined: all of them count.
at::Tensor counted_tokens(const CalibrationJob& job);

/// How many those are; the job's ids are there.
int64_t number_of_counted_tokens(const CalibrationJob& job);

}  // namespace lathe
