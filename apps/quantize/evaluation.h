// An evaluation with its progress on the terminal.
#pragma once

#include <ATen/core/Tensor.h>

#include "apps/quantize/progress.h"
#include "formats/targets/model_folder.h"
#include "lib/eval/evaluate.h"

namespace lathe {

/// evaluate() of a model folder on rows Long [rows, ctx], against `reference` where it isn't null; `details`
/// as there.
EvalResult evaluate_with_progress(const ModelFolder& model, const ModelFolder* reference,
                                  const at::Tensor& ids, c10::Device device, DType compute,
                                  const HiddenStorage& storage, Progress& progress,
                                  EvalDetails* details = nullptr);

}  // namespace lathe
