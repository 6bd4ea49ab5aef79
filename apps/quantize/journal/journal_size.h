// What a run's journal takes at most, for the memory plan: arithmetic over the job, as memory_plan.h has it.
#pragma once

#include <cstdint>

#include "calib/driver/driver.h"

namespace lathe {

/// Bytes of one linear's outcome under its scheme; `given`: with the weight that its solver was given.
uint64_t linear_journal_bytes(const Linear& linear, const Scheme& scheme, bool given);

/// Bytes of all outcomes of a calibrated run, and of hidden states at two boundaries. The job has its
/// samples.
uint64_t journal_bytes(const CalibrationJob& job);

}  // namespace lathe
