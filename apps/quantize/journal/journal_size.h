// What a run's journal takes at most, for the memory plan: arithmetic over the job, as memory_plan.h has it.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "calib/driver/driver.h"

namespace lathe {

/// Bytes of one linear's outcome under its scheme; `given`: with the weight that its solver was given.
/// `weight_bytes`: of a weight that is kept as it is (kept_weight_bytes()).
uint64_t linear_journal_bytes(const Linear& linear, const Scheme& scheme, bool given, uint64_t weight_bytes);

/// Of weights that no transform changes: what the model's files hold them in, where that has two bytes;
/// else 4.
uint64_t kept_weight_bytes(const std::map<std::string, TensorInfo>& tensors, const ModelGraph& graph);

/// Bytes of all outcomes of a calibrated run, and of hidden states at two boundaries. The job has its
/// samples.
uint64_t journal_bytes(const CalibrationJob& job, const std::map<std::string, TensorInfo>& tensors);

}  // namespace lathe
