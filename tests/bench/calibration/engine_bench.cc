#include "tests/bench/calibration/engine_bench.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "calib/driver/driver.h"
#include "lib/tensor/aten.h"
#include "tests/bench/calibration/report.h"
#include "tests/bench/calibration/rtn_job.h"
#include "tests/bench/calibration/timing.h"
#include "tests/bench/calibration/whole_pass.h"

namespace lathe::bench {
namespace {

using nlohmann::json;

constexpr size_t kBlocks = 4;
constexpr int64_t kRounds = 2;  // after the first

/// A checkpoint in memory: every tensor was made before the clock starts.
class HeldWeights : public WeightSource {
 public:
  HeldWeights(const ModelGraph& graph, const WeightSource& source) {
    const at::ScalarType stored = to_scalar_type(graph.config.dtype);
    for (const auto& [name, shape] : graph.expected_tensors())
      tensors_[name] = source.load(name).to(stored).cpu();
  }
  bool contains(const std::string& name) const override { return tensors_.contains(name); }
  at::Tensor load(const std::string& name) const override { return tensors_.at(name); }

 private:
  std::map<std::string, at::Tensor> tensors_;
};

double seconds_of(const CalibrationJob& job) {
  size_t blocks = 0;
  const auto count = [&](const BlockOutcome&) { ++blocks; };
  std::vector<double> seconds;
  for (int64_t round = 0; round <= kRounds; ++round) {
    seconds.push_back(
        measure(job.device, [&] { calibrate(job, {.block_done = count, .progress = {}}); }).wall);
  }
  LATHE_ASSERT(blocks == job.graph->blocks.size() * seconds.size(), "{} blocks came back", blocks);
  return median(std::vector<double>(seconds.begin() + 1, seconds.end()));
}

json measure_placement(CalibrationJob job, Placement hidden, const PassBound& bound) {
  job.storage.hidden.placement = hidden;
  job.storage.hidden.transfer_rows =
      large_transfer(job.ids.size(1), job.graph->config.hidden_size, job.device);
  // As the memory plan has it: where hidden states don't fit, neither does what is four times as wide.
  if (hidden != Placement::device) job.storage.inner = std::nullopt;
  reset_peak(job.device);
  const double run = seconds_of(job);
  const uint64_t peak = peak_bytes(job.device);
  for (auto& block : job.tasks) std::fill(block.begin(), block.end(), LinearTask{});
  const double streaming = seconds_of(job);
  return {{"hidden_states", name_of(hidden)},
          {"run_seconds", run},
          {"streaming_seconds", streaming},
          {"ratio_to_bound", run / bound.seconds()},
          {"goal", kBoundGoal},
          {"met", run <= kBoundGoal * bound.seconds()},
          {"peak_bytes", peak}};
}

}  // namespace

json measure_engine(const BenchModel& model, c10::Device device) {
  const c10::NoGradGuard no_grad;
  ModelGraph graph = model.graph;
  graph.blocks.resize(std::min(kBlocks, graph.blocks.size()));
  const HeldWeights weights(graph, *model.weights);
  const RtnJob rtn(graph, weights, device, compute_dtype(model, device));
  CalibrationJob job = rtn.job;
  at::manual_seed(3);
  job.ids = at::randint(graph.config.vocab_size, {model.samples, model.context}, at::kLong);
  const PassBound bound = pass_bound(model, graph.blocks.size());
  json placements = json::array();
  for (const Placement hidden : {Placement::device, Placement::host}) {
    if (hidden == Placement::host && device.is_cpu()) continue;
    placements.push_back(measure_placement(job, hidden, bound));
  }
  return {{"model", model.name},
          {"blocks", graph.blocks.size()},
          {"samples", {model.samples, model.context}},
          {"rounds", kRounds},
          {"bound_seconds", {bound.forward, bound.gram}},
          {"placements", placements}};
}

}  // namespace lathe::bench
