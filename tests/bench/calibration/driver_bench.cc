#include "tests/bench/calibration/driver_bench.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "tests/bench/calibration/rtn_job.h"
#include "tests/bench/calibration/timing.h"

namespace lathe::bench {
namespace {

constexpr size_t kBlocks = 6;
constexpr int64_t kMicroBatches = 4;

/// All samples through all blocks, a micro-batch at a time, and nothing else.
void run_forward(const ModelGraph& graph, const WeightSource& source, DType compute, const at::Tensor& ids,
                 int64_t batch, c10::Device device) {
  const at::Tensor embedding = source.load(graph.embedding + ".weight");
  const RopeTables rope = rope_tables(graph.config, ids.size(1), device);
  std::vector<at::Tensor> hidden;
  for (const at::Tensor& part : ids.split(batch)) hidden.push_back(embed(graph, embedding, part).to(device));
  for (const Block& block : graph.blocks) {
    const BlockWeights weights(block, source, device, compute);
    const BlockForward forward(graph.config, block, weights, rope);
    for (at::Tensor& h : hidden) h = forward.run(h);
  }
}

}  // namespace

nlohmann::json measure_driver(const BenchModel& model, c10::Device device, int64_t rounds) {
  const c10::NoGradGuard no_grad;
  ModelGraph graph = model.graph;
  graph.blocks.resize(std::min(kBlocks, graph.blocks.size()));
  const std::shared_ptr<const WeightSource> weights = host_weights(model);
  const RtnJob rtn(graph, *weights, device, compute_dtype(model, device));
  CalibrationJob job = rtn.job;
  at::manual_seed(3);
  job.ids = at::randint(graph.config.vocab_size, {kMicroBatches * model.batch, model.context}, at::kLong);
  std::vector<Timing> forward, run;
  std::vector<double> solve;
  for (int64_t round = 0; round < rounds; ++round) {
    forward.push_back(
        measure(device, [&] { run_forward(graph, *weights, job.compute, job.ids, model.batch, device); }));
    double solving = 0;
    const auto count = [&](BlockOutcome&& outcome) {
      for (const LinearOutcome& linear : outcome.linears) solving += linear.seconds;
    };
    run.push_back(measure(device, [&] { calibrate(job, {.block_done = count, .progress = {}}); }));
    solve.push_back(solving);
  }
  const Timing ratio = median_ratio(run, forward);
  return {{"model", model.name},
          {"blocks", graph.blocks.size()},
          {"samples", {job.ids.size(0), job.ids.size(1)}},
          {"rounds", rounds},
          {"forward_seconds", median(forward).wall},
          {"run_seconds", median(run).wall},
          {"solve_seconds", median(solve)},
          {"ratio", ratio.wall},
          {"cpu_ratio", ratio.cpu}};
}

}  // namespace lathe::bench
