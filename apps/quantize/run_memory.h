// What a calibrated run will take, phase by phase.
#pragma once

#include <optional>

#include "apps/quantize/memory.h"
#include "apps/quantize/requests.h"
#include "apps/quantize/run_text.h"

namespace lathe {

struct RunMemory {
  MemoryPlan calibration;
  std::optional<EvalMemory> evaluation;  // none asked for
};

/// Gives the job its samples. UserError where a limit can't be kept.
RunMemory plan_memory_of(const RunRequest& request, const Recipe& recipe, const Plan& plan,
                         const ModelFolder& model, const RunText& text, CalibrationJob& job,
                         const std::filesystem::path& work);

}  // namespace lathe
