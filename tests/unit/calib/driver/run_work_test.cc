// What a run computes, counted by hand: tiny_graph()'s block has q and o 64 x 64, k and v 32 x 64, gate and
// up 96 x 64, down 64 x 96. Three samples of 10 tokens, of which 25 count.
#include "calib/driver/run_work.h"

#include <gtest/gtest.h>

#include "tests/unit/calib/driver/tiny_model.h"

namespace lathe {
namespace {

using testing::family_graph;
using testing::tiny_graph;

constexpr double kWeights = 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 96;
/// Of all linears, rows x width^2.
constexpr double kRowsSquares = (64 + 2 * 32 + 64 + 2 * 96) * 64.0 * 64 + 64.0 * 96 * 96;

std::unique_ptr<Solver> solver(const std::string& name, const std::map<std::string, OptionValue>& set = {}) {
  for (const SolverEntry& entry : solvers()) {
    if (entry.name != name) continue;
    Options options(entry.options);
    for (const auto& [key, value] : set) options.set(key, value);
    return entry.make(options);
  }
  return nullptr;
}

std::unique_ptr<Transform> awq() {
  for (const TransformEntry& entry : transforms()) {
    if (entry.name != "awq") continue;
    Options options(entry.options);
    options.set("clip", false);
    return entry.make(options);
  }
  return nullptr;
}

CalibrationJob job_of(const ModelGraph& graph, const Solver& solver) {
  CalibrationJob job;
  job.graph = &graph;
  const Scheme scheme{.bits = 4, .group_size = 32, .symmetric = false};
  for (const Block& block : graph.blocks)
    job.tasks.emplace_back(block.linears.size(), LinearTask{&solver, scheme});
  return job;
}

TEST(RunWork, OfRounding) {
  const ModelGraph graph = tiny_graph();
  const auto rtn = solver("rtn");
  const RunWork work = run_work(job_of(graph, *rtn), 3, 10, 25);
  EXPECT_EQ(work.forward.products, 2 * 2 * 30 * kWeights);
  EXPECT_EQ(work.forward.attention, 2 * 4 * 64 * 3 * 55.0);
  EXPECT_EQ(work.forward.values, 2 * 30 * (6 * 64 + 96 + 96.0)) << "two of the norms run twice";
  EXPECT_EQ(work.gram, 2 * 25 * (3 * 64 * 65 + 96 * 97.0));
  EXPECT_EQ(work.observed, 2 * 25 * (3 * 64 + 96 + 64.0)) << "of four inputs, and what leaves the block";
  EXPECT_EQ(work.solvers.at(rtn.get()), (Work{.roundings = 2 * kWeights}));
  EXPECT_EQ(work.errors, (Work{.products = 2 * 2 * kRowsSquares, .roundings = 2 * 2 * kWeights}));
  EXPECT_EQ(work.flops(), work.forward.flops() + work.gram + work.errors.flops() + 2 * 10 * kWeights);
}

TEST(RunWork, TheReportsGramMatrixIsOfTheFirstTokens) {
  const ModelGraph graph = tiny_graph();
  const auto rtn = solver("rtn"), gptq = solver("gptq");
  const double inputs = 2 * (3 * 64 * 65 + 96 * 97.0);
  EXPECT_EQ(run_work(job_of(graph, *rtn), 1000, 32, 32'000).gram, 8192 * inputs);
  EXPECT_EQ(run_work(job_of(graph, *gptq), 1000, 32, 32'000).gram, 32'000 * inputs);
}

TEST(RunWork, OfErrorFeedbackWithTwoStreams) {
  const ModelGraph graph = tiny_graph();
  const auto gptq = solver("gptq", {{"match_reference", 0.5}});
  const RunWork work = run_work(job_of(graph, *gptq), 3, 10, 25);
  EXPECT_EQ(work.forward.products, 2 * 2 * 2 * 30 * kWeights) << "the unquantised model runs beside";
  EXPECT_EQ(work.gram, 2 * 25 * (3 * 64 * 65 + 96 * 97 + 2 * (3 * 64 * 64 + 96 * 96.0)));
  const Work& solved = work.solvers.at(gptq.get());
  EXPECT_DOUBLE_EQ(solved.factors, 2 * 2.0 / 3 * (3 * 64 * 64 * 64 + 96 * 96 * 96)) << "one an input";
  EXPECT_EQ(solved.products, 2 * 9 * kRowsSquares);
  EXPECT_EQ(solved.roundings, 2 * (41 + 1) * kWeights);
}

TEST(RunWork, OfATransform) {
  const ModelGraph graph = tiny_graph();
  const auto rtn = solver("rtn");
  const auto transform = awq();
  CalibrationJob job = job_of(graph, *rtn);
  job.transforms = {transform.get()};
  const RunWork work = run_work(job, 3, 10, 25);
  ASSERT_EQ(work.transforms.size(), 1u);
  // Twenty exponents and no scaling, over every edge: each linear reads one.
  EXPECT_EQ(work.transforms[0], (Work{.products = 2 * 21 * kRowsSquares, .roundings = 2 * 21 * kWeights}));
  // Consumers that stay in floating point aren't searched for.
  for (auto& block : job.tasks)
    for (size_t i = 0; i < block.size(); ++i)
      if (graph.blocks[0].linears[i].role != LinearRole::down_proj) block[i].solver = nullptr;
  EXPECT_EQ(run_work(job, 3, 10, 25).transforms[0],
            (Work{.products = 2 * 21 * 64.0 * 96 * 96, .roundings = 2 * 21 * 64.0 * 96}));
}

TEST(RunWork, WhatIsNotKeptIsMadeTwice) {
  const ModelGraph graph = tiny_graph();
  const auto rtn = solver("rtn");
  CalibrationJob job = job_of(graph, *rtn);
  const RunWork kept = run_work(job, 3, 10, 25);
  job.storage.inner.reset();
  const RunWork made = run_work(job, 3, 10, 25);
  EXPECT_EQ(made.forward.products - kept.forward.products, 2 * 2 * 30 * ((64 + 64 + 2 * 96) * 64.0));
  EXPECT_EQ(made.forward.attention, 2 * kept.forward.attention);
  EXPECT_EQ(made.gram, kept.gram);
}

TEST(RunWork, ExpertsMakeTheirMiddlesTwice) {
  const ModelGraph graph = family_graph("qwen3_moe", 64, 1);
  const auto rtn = solver("rtn");
  CalibrationJob job = job_of(graph, *rtn);
  const double once = block_work(graph.config, graph.blocks[0], 3, 10).products;
  EXPECT_DOUBLE_EQ(run_work(job, 3, 10, 25).forward.products, once + 2 * 30 * 2 * (2 * 32 * 64.0));
  for (size_t i = 0; i < job.tasks[0].size(); ++i)
    if (graph.blocks[0].linears[i].role == LinearRole::down_proj) job.tasks[0][i].solver = nullptr;
  EXPECT_DOUBLE_EQ(run_work(job, 3, 10, 25).forward.products, once);
}

// Of 8 bits keys and values are made once more, of all tokens; of fewer bits with queries, of as many as are
// fitted to, and their errors are weighted; KIVI has nothing to fit.
TEST(RunWork, KvCachesAreCounted) {
  const ModelGraph graph = tiny_graph();
  const auto rtn = solver("rtn");
  CalibrationJob job = job_of(graph, *rtn);
  const RunWork plain = run_work(job, 3, 10, 25);
  EXPECT_EQ(plain.cache_tokens, 0);
  job.kv_cache = KvCacheScheme{};
  EXPECT_EQ(run_work(job, 3, 10, 25).forward.products, plain.forward.products + 2 * 2 * 30 * 2 * 32.0 * 64);
  job.kv_cache = KvCacheScheme{.type = "kivi", .bits = 2, .value_bits = 2, .group_size = 16, .window = 32};
  EXPECT_EQ(run_work(job, 3, 10, 25).flops(), plain.flops());
  job.kv_cache = KvCacheScheme{.type = "kvquant", .bits = 4, .value_bits = 4, .sink = 1, .outliers = 0.01};
  const RunWork fitted = run_work(job, 3, 10, 25);
  EXPECT_EQ(fitted.cache_tokens, 30);
  EXPECT_EQ(fitted.forward.products, plain.forward.products + 2 * 2 * 30 * (64 + 2 * 32) * 64.0);
  EXPECT_EQ(fitted.cache, 2 * 30 * 9 * 64 * 10.0);
  EXPECT_EQ(fitted.flops(), plain.flops() + fitted.cache + fitted.forward.products - plain.forward.products);
  job.kv_cache->weights = KvCacheWeights::fisher;  // the model there and back, and its head, in its place
  const RunWork weighted = run_work(job, 3, 10, 25);
  EXPECT_EQ(weighted.cache, 0);
  EXPECT_EQ(weighted.cache_gradients.products, 3 * plain.forward.products);
  EXPECT_EQ(weighted.cache_head, 3 * 2 * 30 * 64.0 * static_cast<double>(graph.config.vocab_size));
  EXPECT_EQ(weighted.flops(),
            fitted.flops() - fitted.cache + weighted.cache_gradients.flops() + weighted.cache_head);
  job.kv_cache->weights = KvCacheWeights::attention;
  const RunWork many = run_work(job, 64, 512, 64 * 512);
  EXPECT_EQ(many.cache_tokens, 16384);
  EXPECT_EQ(many.cache, 2 * 16384 * 9 * 64 * 512.0);
}

}  // namespace
}  // namespace lathe
