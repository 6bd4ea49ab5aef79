// The memory that a command may take, and what it plans to take.
#pragma once

#include <c10/core/Device.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "calib/driver/memory_plan.h"
#include "formats/targets/model_folder.h"
#include "lib/eval/eval_memory.h"
#include "recipes/plan.h"

namespace lathe {

/// The folder for temporary files: the one that was asked for, which must be there and take files
/// (UserError); else the nearest existing folder at or above `beside`.
std::filesystem::path work_folder(const std::optional<std::filesystem::path>& asked,
                                  const std::filesystem::path& beside);

/// Adds a warning for a limit that says nothing: --max-vram where the run is on the CPU.
void warn_limits(const MemoryLimits& limits, c10::Device device, std::vector<std::string>& warnings);

/// What the end of a run takes of RAM, where its output is written and checked, beyond what all runs do.
uint64_t finish_bytes(const Plan& plan);

/// What a calibrated run will take, with `journal` bytes of disk for what it keeps to go on from and
/// finish_bytes() at its end, while others keep `beside`. The job holds its samples, and what was needed to
/// read them is gone. UserError where the limits can't be kept.
MemoryPlan plan_run_memory(const MemoryLimits& limits, const CalibrationJob& job,
                           const std::filesystem::path& work, uint64_t journal, uint64_t finish,
                           const MemoryBytes& beside = {});

/// What a run takes that holds one weight at a time, or those that share a scale, `weights` values at most.
/// `journal` and `finish` as above. UserError where the limits can't be kept.
MemoryBytes plan_weights_memory(const MemoryLimits& limits, int64_t weights, c10::Device device,
                                uint64_t journal, uint64_t finish);

/// Where what stands beside the driver while it works ([samples, length, width], FP32: hidden states of other
/// runs, gradients) stands: in a file, or, where it may stand in memory and is a small part of it, on the
/// device or in host memory. Adds what it takes to `taken`.
HiddenStorage place_beside(int64_t samples, int64_t length, int64_t width, c10::Device device,
                           const std::filesystem::path& work, const MemoryLimits& limits, bool in_memory,
                           MemoryBytes& taken);

/// {"ram", "vram", "disk"}, for programs.
nlohmann::json bytes_json(const MemoryBytes& bytes);

/// What an evaluation of rows [rows, ctx] will take.
EvalMemory plan_eval_memory(const ModelFolder& model, const ModelFolder* reference, const at::Tensor& rows,
                            const MemoryLimits& limits, c10::Device device,
                            const std::filesystem::path& work);

}  // namespace lathe
