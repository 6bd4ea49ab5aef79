// Fills the report while a run goes on.
#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "apps/quantize/artifact.h"
#include "apps/quantize/requests.h"
#include "apps/quantize/run_text.h"
#include "calib/driver/driver.h"
#include "calib/driver/memory_plan.h"
#include "formats/targets/model_folder.h"
#include "formats/verify/finding.h"
#include "lib/base/clock.h"
#include "lib/eval/eval_memory.h"
#include "lib/eval/evaluate.h"
#include "lib/report/report.h"
#include "recipes/plan.h"

namespace lathe {

Report::Model report_model(const Recipe& recipe, const ModelFolder& model);
Report::Environment report_environment(c10::Device device, DType compute);
Report::Memory report_memory(const Recipe& recipe, const MemoryPlan& memory);  // limits and plan
Report::Calibration report_calibration(const CalibrationSet& set);

class RunReport {
 public:
  RunReport(const Recipe& recipe, const Plan& plan, const ModelFolder& model, c10::Device device,
            DType compute);

  /// Runs `work` and records its wall time under `stage`.
  template <class Work>
  auto timed(const std::string& stage, Work&& work) {
    const StageTimer timer(*this, stage);
    return std::forward<Work>(work)();
  }

  void set_memory(const MemoryPlan& memory);
  void set_memory(const MemoryBytes& planned);  // of a run without activations
  void add_warnings(const std::vector<std::string>& warnings);
  void set_eval_memory(const EvalMemory& memory);
  void set_text(const RunText& text);
  void add_block(const BlockOutcome& outcome);
  /// budget.json of a mixture.
  void set_budget(const nlohmann::json& budget) { report_.budget = budget; }
  /// sensitivity_section(), and what measuring took; 0: it was there already.
  void set_sensitivity(const nlohmann::json& section, double measuring_seconds) {
    report_.sensitivity = section;
    if (measuring_seconds > 0) report_.stages.emplace_back("measure sensitivity", measuring_seconds);
  }
  /// Bytes of the first output's weight files.
  void set_written(uint64_t bytes);
  void set_evaluation(const EvalResult& result);
  /// Of the output whose report is written next.
  void set_verification(const Findings& findings);
  /// Linears whose solvers fell back to what the recipe doesn't let them.
  Findings fallbacks() const;

  /// Writes report.json, report.md, report.html and README.md, the model card, around the one that the folder
  /// holds (the unquantised model's): of what the writer made of the run.
  void write(const ArtifactWriter& writer);
  std::string terminal_summary(const ArtifactWriter& writer) const { return to_terminal(report_of(writer)); }

 private:
  class StageTimer {
   public:
    StageTimer(RunReport& owner, std::string stage) : owner_(owner), stage_(std::move(stage)) {}
    StageTimer(const StageTimer&) = delete;
    StageTimer& operator=(const StageTimer&) = delete;
    ~StageTimer() { owner_.report_.stages.emplace_back(stage_, watch_.seconds()); }

   private:
    RunReport& owner_;
    std::string stage_;
    Stopwatch watch_;
  };

  Report report_of(const ArtifactWriter& writer) const;
  void add_experts(const BlockOutcome& outcome);
  void add_inputs(const BlockOutcome& outcome);
  void add_spreads(const BlockOutcome& outcome);
  void add_overflows(const std::map<std::string, InputOverflow>& overflows);
  void count_bits(const BlockOutcome& outcome);
  std::vector<std::string> loss_warnings(const Report& report, const ArtifactWriter& writer) const;

  const Recipe& recipe_;
  const Plan& plan_;
  c10::Device device_;
  Report report_;
  std::map<std::string, ScaleCounts> scales_;  // of solvers' results, by linear
  std::set<std::string> small_scales_;         // linears whose scales are below their type's normal numbers
};

/// `quantize eval`: for machines and for people.
nlohmann::json eval_json(const EvalRequest& request, const ModelFolder& model, const EvalResult& result);
std::string eval_text(const EvalRequest& request, const ModelFolder& model, const EvalResult& result);

}  // namespace lathe
