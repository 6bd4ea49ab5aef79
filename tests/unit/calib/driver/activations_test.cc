// Quantised activations: grids that are found after the folds, of what the linears really read.
#include <gtest/gtest.h>

#include "calib/driver/driver.h"
#include "calib/stats/stats_collector.h"
#include "lib/model/forward.h"
#include "tests/unit/calib/driver/tiny_model.h"

namespace lathe {
namespace {

using testing::FixedScales;
using testing::RecordingSolver;

const Scheme kInt8{.type = "int", .bits = 8, .group_size = -1, .symmetric = true};

ActivationTask static_task(ActivationObserver method) {
  return {{"int", 8, false, ActivationScheme::Per::tensor, true}, {method, 99}};
}

struct TinyJob {
  ModelGraph graph;
  testing::MemoryWeights weights;
  RecordingSolver solver;
  FixedScales transform;
  std::vector<BlockOutcome> outcomes;
  CalibrationJob job;

  TinyJob(ModelGraph graph_, const ActivationTask& activations)
      : graph(std::move(graph_)), weights(testing::random_weights(graph, 11)) {
    job.graph = &graph;
    job.weights = &weights;
    job.transforms = {&transform};
    for (const Block& block : graph.blocks) {
      auto& tasks = job.tasks.emplace_back();
      for (const Linear& linear : block.linears) {
        tasks.push_back(word_matches(linear, "linear") ? LinearTask{&solver, kInt8, activations}
                                                       : LinearTask{});
      }
    }
    at::manual_seed(3);
    job.ids = at::randint(0, 50, {160, 16}, at::kLong);  // more tokens than one micro-batch holds
    job.experts.min_tokens = 1;
  }
  void go() {
    calibrate(job,
              {.block_done = [&](BlockOutcome&& o) { outcomes.push_back(std::move(o)); }, .progress = {}});
  }
  std::map<std::string, float> scales() const {
    std::map<std::string, float> found;
    for (const BlockOutcome& block : outcomes) {
      for (const LinearOutcome& linear : block.linears)
        found[linear.linear->name] = linear.quantized.input->scale;
    }
    return found;
  }
};

/// The scales that the observer gives for what each linear reads in a pass of `source`.
std::map<std::string, float> scales_of(const TinyJob& run, const WeightSource& source,
                                       const ActivationTask& task) {
  std::map<std::string, float> scales;
  at::Tensor hidden = embed(run.graph, source.load("model.embed_tokens.weight"), run.job.ids);
  const RopeTables rope = rope_tables(run.graph.config, run.job.ids.size(1), c10::Device(c10::kCPU));
  for (const Block& block : run.graph.blocks) {
    const BlockWeights weights(block, source, c10::Device(c10::kCPU));
    const BlockForward forward(run.graph.config, block, weights, rope);
    const auto record = [&](const Input& input, const at::Tensor& x) {
      StatsCollector collector(task.needs(), x.size(-1), c10::kCPU, "x");
      collector.observe(x);
      const InputQuantizer quantizer = quantizer_for(task, collector.finish(), DType::F16, "x");
      for (const Linear* linear : block.reading(input)) scales[linear->name] = quantizer.scale;
    };
    const at::Tensor x = forward.attention_in(hidden), a = forward.attention_out(x);
    const at::Tensor h = forward.add_attention(hidden, a), y = forward.mlp_in(h);
    record({Slot::attention_in, std::nullopt}, x);
    record({Slot::attention_out, std::nullopt}, a);
    record({Slot::mlp_in, std::nullopt}, y);
    if (block.experts) {
      const at::Tensor rows = y.flatten(0, 1);
      const auto routed = forward.route(rows).by_expert(block.experts->count);
      for (int64_t e = 0; e < block.experts->count; ++e) {
        const at::Tensor sent = rows.index_select(0, routed[static_cast<size_t>(e)].tokens);
        record({Slot::mlp_in, e}, sent);
        record({Slot::mlp_mid, e}, forward.expert_mid(e, sent));
      }
      return scales;
    }
    record({Slot::mlp_mid, std::nullopt}, forward.mlp_mid(y));
    hidden = forward.add_mlp(h, forward.mlp_mid(y));
  }
  return scales;
}

void expect_same_scales(const std::map<std::string, float>& found,
                        const std::map<std::string, float>& expected, size_t count) {
  EXPECT_EQ(found.size(), count);
  for (const auto& [name, scale] : found) EXPECT_NEAR(scale / expected.at(name), 1, 6e-3) << name;
}

TEST(StaticActivations, AreObservedAfterTheFolds) {
  for (const auto method :
       {ActivationObserver::minmax, ActivationObserver::percentile, ActivationObserver::mse}) {
    SCOPED_TRACE(name_of(method));
    TinyJob run(testing::tiny_graph(), static_task(method));
    run.go();
    const auto finished = testing::finished_model(run.weights, run.outcomes);
    expect_same_scales(run.scales(), scales_of(run, finished, static_task(method)), 14);
  }
}

TEST(StaticActivations, AreTheSameWhereverInnerValuesStand) {
  std::vector<std::map<std::string, float>> scales;
  for (const bool kept : {true, false}) {
    TinyJob run(testing::tiny_graph(), static_task(ActivationObserver::percentile));
    if (!kept) run.job.storage.inner = std::nullopt;
    run.go();
    scales.push_back(run.scales());
  }
  EXPECT_EQ(scales[0], scales[1]);
}

TEST(StaticActivations, OfExpertsAreThoseOfTheRowsSentToThem) {
  for (const auto method : {ActivationObserver::minmax, ActivationObserver::percentile}) {
    SCOPED_TRACE(name_of(method));
    TinyJob run(testing::family_graph("qwen3_moe", 32, 1), static_task(method));
    run.go();
    const auto finished = testing::finished_model(run.weights, run.outcomes);
    expect_same_scales(run.scales(), scales_of(run, finished, static_task(method)), 4 + 3 * 5);
  }
}

TEST(StaticActivations, OfTheReferenceStreamAreDividedByTheFolds) {
  const ActivationTask percentile = static_task(ActivationObserver::percentile);
  TinyJob run(testing::tiny_graph(), percentile);
  run.job.propagate = Propagate::reference;
  run.go();
  const auto plain = scales_of(run, run.weights, {percentile.scheme, {ActivationObserver::minmax}});
  const auto found = run.scales();
  // The fold divides channels by 0.5 to 2: the range of what is read changes with it.
  TinyJob unfolded(testing::tiny_graph(), percentile);
  unfolded.job.transforms.clear();
  unfolded.job.propagate = Propagate::reference;
  unfolded.go();
  const auto direct = scales_of(run, run.weights, percentile);
  expect_same_scales(unfolded.scales(), direct, 14);
  size_t moved = 0;
  for (const auto& [name, scale] : found) moved += std::abs(scale / direct.at(name) - 1) > 0.02 ? 1 : 0;
  EXPECT_EQ(moved, 14u);
  for (const auto& [name, scale] : found) {
    EXPECT_LT(scale, 2.1 * plain.at(name));
    EXPECT_GT(scale, 0.4 * direct.at(name));
  }
}

TEST(DynamicActivations, WhatFollowsIsCalibratedOnTheirRounding) {
  TinyJob run(testing::tiny_graph(), ActivationTask{});
  run.job.transforms.clear();
  run.go();
  const auto finished = testing::finished_model(run.weights, run.outcomes);
  EXPECT_EQ(finished.inputs.size(), 14u);
  auto exact = finished;
  exact.inputs.clear();
  // The Gram matrix of the last linear is that of the model that rounds its activations, not of the other.
  const auto gram_of = [&](const WeightSource& source) {
    at::Tensor hidden = embed(run.graph, source.load("model.embed_tokens.weight"), run.job.ids), z;
    const RopeTables rope = rope_tables(run.graph.config, run.job.ids.size(1), c10::Device(c10::kCPU));
    for (const Block& block : run.graph.blocks) {
      const BlockWeights weights(block, source, c10::Device(c10::kCPU));
      const BlockForward forward(run.graph.config, block, weights, rope);
      const at::Tensor h = forward.add_attention(hidden, forward.attention_out(forward.attention_in(hidden)));
      z = forward.mlp_mid(forward.mlp_in(h));
      hidden = forward.add_mlp(h, z);
    }
    const at::Tensor rows = z.flatten(0, 1).to(at::kDouble);
    return testing::product_of(rows, rows);
  };
  const at::Tensor& seen = run.solver.seen.at("model.layers.1.mlp.down_proj").gram;
  testing::expect_near(seen, gram_of(finished), 1e-5, "with rounding");
  EXPECT_GT(((seen - gram_of(exact)).norm() / seen.norm()).item<double>(), 1e-4);
}

}  // namespace
}  // namespace lathe
