// --dry-run: the whole plan, for people or, with --json, for programs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apps/quantize/estimate/estimate.h"
#include "apps/quantize/mixed/measure.h"
#include "apps/quantize/requests.h"
#include "calib/data/calibration_set.h"
#include "calib/driver/memory_plan.h"
#include "lib/eval/eval_memory.h"
#include "recipes/plan.h"

namespace lathe {

/// What an evaluation scores.
struct PlannedRows {
  EvaluatedRows rows = {};
  double read = 1;  // the part of its text that they were estimated from; 1: they are known
};

struct DryRun {
  const Recipe& recipe;
  const Plan& plan;
  const ModelGraph& graph;
  const Estimate* estimate = nullptr;  // null: the run was refused for its memory, of which nothing is said
  /// Of a calibrated run its memory and data, of others what weights take.
  const MemoryPlan* memory = nullptr;
  const MeasurementPlan* measuring = nullptr;  // of sensitivities, before the run; null: none is to be done
  const CalibrationSet* calibration = nullptr;
  int64_t wanted_tokens = 0;  // RunText's
  MemoryBytes weights_memory = {};
  const EvalMemory* evaluation = nullptr;     // null: none is asked for
  PlannedRows evaluated = {};                 // of it
  std::vector<std::string> warnings = {};     // but for its outputs'
  std::optional<nlohmann::json> budget = {};  // what chose the mixture, or will
};

/// In the order of a run.
std::string describe_dry_run(const DryRun& run);

/// As lib/report/plan.schema.json has it, plan_json() with what the run takes; what a run doesn't have is
/// null. "work" has measuring in it.
nlohmann::json dry_run_json(const DryRun& run);

/// On stdout, as the request wants it, with a warning where the output exists already.
void print_dry_run(const RunRequest& request, const DryRun& planned);

}  // namespace lathe
