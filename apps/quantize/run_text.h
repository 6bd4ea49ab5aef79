// All text of a run as token ids, read before any computing: what is wrong with it is known at once.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

#include "apps/quantize/dataset.h"
#include "formats/targets/model_folder.h"
#include "recipes/plan.h"
#include "recipes/recipe.h"

namespace lathe {

/// A run's text as token ids.
struct RunText {
  CalibrationSet calibration;
  int64_t wanted_tokens = 0;          // of it, for reliable statistics
  std::vector<std::string> warnings;  // about it, and about the plan but for its outputs
  at::Tensor evaluation;              // Long [rows, ctx]; undefined where the recipe asks for none
  double evaluation_read = 1;         // EvaluationRows::read
};

/// UserError as read_calibration() and read_evaluation().
RunText read_run_text(const Recipe& recipe, const Plan& plan, const ModelFolder& model, TextExtent extent);

/// How many rows an evaluation takes, for a plan.
struct EvaluationRows {
  at::Tensor ids;   // Long [rows, ctx]; where `read` is below 1 and all rows are asked for, without contents
  double read = 1;  // the part of the text's file that their number was estimated from; 1: it is known
};
/// As read_evaluation(), from the head of a large file.
EvaluationRows plan_evaluation(const std::filesystem::path& text, const ModelText& reader, int64_t ctx,
                               int64_t count);

/// The first `count` rows of `ctx` tokens of a text, Long [rows, ctx]; all of them where count is 0 or larger
/// than there are. UserError where there isn't one, or as token_rows().
at::Tensor read_evaluation(const std::filesystem::path& text, const ModelText& reader, int64_t ctx,
                           int64_t count);

}  // namespace lathe
