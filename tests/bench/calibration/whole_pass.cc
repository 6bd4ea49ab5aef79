#include "tests/bench/calibration/whole_pass.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <memory>

#include "tests/bench/calibration/report.h"

namespace lathe::bench {
namespace {

using nlohmann::json;

constexpr double kPeakFlops = 989e12;

using Collectors = std::vector<std::unique_ptr<StatsCollector>>;

Collectors gram_collectors(const Block& block, c10::Device device) {
  Collectors collectors;
  for (const Slot slot : kSlots) {
    collectors.push_back(std::make_unique<StatsCollector>(StatSet{.gram = true}, width_of(block, slot),
                                                          device, std::string(name_of(slot))));
  }
  return collectors;
}

struct PassTimes {
  Timing weights, forward, with_gram;
};

/// One block over all micro-batches; `hidden` moves on.
void run_block(const BenchModel& model, const Block& block, const RopeTables& rope,
               std::vector<at::Tensor>& hidden, PassTimes& times) {
  const c10::Device device = hidden.front().device();
  std::unique_ptr<BlockWeights> weights;
  times.weights += measure(device, [&] {
    weights = std::make_unique<BlockWeights>(block, *model.weights, device, compute_dtype(model, device));
    for (const Linear& linear : block.linears)
      weights->compute_weight(linear);  // rounded now, not in the pass
  });
  const BlockForward forward(model.graph.config, block, *weights, rope);
  times.forward += measure(device, [&] {
    for (const at::Tensor& h : hidden) forward.run(h);
  });
  times.with_gram += measure(device, [&] {
    Collectors collectors = gram_collectors(block, device);
    const auto observe = [&](Slot slot, const at::Tensor& x) {
      collectors[static_cast<size_t>(slot)]->observe(x);
    };
    for (at::Tensor& h : hidden) h = run_stages(forward, h, observe);
    for (const auto& collector : collectors) collector->finish();
  });
}

double micro_batches(const BenchModel& model, size_t blocks) {
  return static_cast<double>(model.samples / model.batch) * static_cast<double>(blocks);
}

double forward_flops(const BenchModel& model, size_t blocks) {
  return (linear_flops(model) + attention_flops(model)) * micro_batches(model, blocks);
}

}  // namespace

PassBound pass_bound(const BenchModel& model, size_t blocks) {
  return {forward_flops(model, blocks) / kPeakFlops,
          gram_flops(model) * micro_batches(model, blocks) / kPeakFlops};
}

json measure_pass(const BenchModel& model, c10::Device device) {
  const c10::NoGradGuard no_grad;
  reset_peak(device);
  const RopeTables rope = rope_tables(model.graph.config, model.context, device);
  const int64_t batches = model.samples / model.batch;
  std::vector<at::Tensor> hidden;
  const at::Tensor first = first_hidden(model, device);
  for (int64_t i = 0; i < batches; ++i) hidden.push_back(at::roll(first, i, 1));  // other rows for each batch
  PassTimes times;
  for (const Block& block : model.graph.blocks) run_block(model, block, rope, hidden, times);
  const PassBound bound = pass_bound(model, model.graph.blocks.size());
  return {
      {"model", model.name},
      {"blocks", model.graph.blocks.size()},
      {"samples", {model.samples, model.context}},
      {"weights_seconds", times.weights.wall},
      {"forward_seconds", times.forward.wall},
      {"forward_gram_seconds", times.with_gram.wall},
      {"bound_seconds", {bound.forward, bound.gram}},
      {"ratio_to_bound", times.with_gram.wall / bound.seconds()},
      {"goal", kBoundGoal},
      {"met", times.with_gram.wall <= kBoundGoal * bound.seconds()},
      {"forward_tflops_per_s", forward_flops(model, model.graph.blocks.size()) / times.forward.wall / 1e12},
      {"peak_bytes", peak_bytes(device)}};
}

}  // namespace lathe::bench
