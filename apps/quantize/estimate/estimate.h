// What a run computes, and how long that takes here: for the plan.
//
// FLOPs are counted from shapes and tokens alone (calib/driver/run_work.h, lib/eval/eval_work.h); seconds are
// these over the rates that the machine has now (rates.h). Reading and writing files isn't in it, but for
// what is computed on the way.
#pragma once

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <vector>

#include "apps/quantize/estimate/rates.h"
#include "apps/quantize/job.h"
#include "calib/sensitivity/sensitivity.h"
#include "formats/targets/model_folder.h"
#include "recipes/plan.h"
#include "recipes/recipe.h"

namespace lathe {

/// "forward", "statistics", "transform awq", "solver gptq", "errors", "pack", "verify", "evaluate".
struct EstimatedStage {
  std::string name;
  double flops = 0;  // at the most, where a solver or a search may end early
  double seconds = 0;
};

struct Estimate {
  std::vector<EstimatedStage> stages;  // in the order of the run
  std::string device;                  // "cpu, 2 threads"

  double flops() const;
  double seconds() const;
};

/// Of an evaluation; 0 rows: none.
struct EvaluatedRows {
  int64_t rows = 0, ctx = 0;
};
/// ids: Long [rows, ctx], or undefined.
EvaluatedRows rows_of(const at::Tensor& ids);

struct EstimateRequest {
  const Recipe& recipe;
  const Plan& plan;
  const ModelGraph& graph;
  const Algorithms& algorithms;
  RateProbes& probes;
  EvaluatedRows evaluation = {};
};

/// Of a calibrated run, whose job has its ids and storage.
Estimate estimate_run(const EstimateRequest& request, const CalibrationJob& job);
/// Of one that takes weights one by one.
Estimate estimate_weights(const EstimateRequest& request);

/// Of measuring candidates; the job has its ids and storage. Stages are "forward", "statistics", "trial rtn",
/// "errors" and "held-out text".
Estimate estimate_sensitivity(const SensitivityJob& job, RateProbes& probes);

/// Both, one after the other; the stages of measuring are named "sensitivity: forward", ...
Estimate one_after_other(const Estimate& measuring, const Estimate& run);

/// For people: the sum, then a line for each stage.
std::string describe_estimate(const Estimate& estimate);
nlohmann::json estimate_json(const Estimate& estimate);

}  // namespace lathe
