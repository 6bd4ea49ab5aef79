// The end of a run that wrote an artefact, whichever way its weights were rounded.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <optional>

#include "apps/quantize/artifact.h"
#include "apps/quantize/progress.h"
#include "apps/quantize/read_back.h"
#include "apps/quantize/reporting.h"
#include "apps/quantize/requests.h"
#include "calib/data/calibration_set.h"
#include "formats/targets/model_folder.h"
#include "lib/base/file.h"
#include "lib/eval/eval_memory.h"
#include "recipes/recipe.h"

namespace lathe {

/// What a run was made from.
struct FinishedRun {
  const RunRequest& request;
  const Recipe& recipe;
  const ModelFolder& model;          // the floating-point one
  at::Tensor evaluation;             // Long [rows, ctx]; undefined where nothing is to be scored
  std::optional<EvalMemory> memory;  // of the evaluation
  c10::Device device;
  DType compute;
  const CalibrationSet& calibration;  // empty where there was none
};

using OpenArtefact = std::function<ModelFolder(const std::filesystem::path&)>;

/// Checks the artefacts (formats/verify), scores them as they stand on disk, writes report and manifest into
/// each folder, and puts the output in its place. CheckFailed where a check did not hold: the output then
/// stands where OutputFolder::reject() puts it, and the first findings on stderr.
void finish_run(const FinishedRun& run, const OpenArtefact& open, const ArtifactWriters& writers,
                const WrittenTensors& written, RunReport& report, Progress& progress, OutputFolder& output);

}  // namespace lathe
