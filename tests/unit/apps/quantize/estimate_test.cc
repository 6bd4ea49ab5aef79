// The plan's estimate: every algorithm and grid can be timed, and what is said of it adds up. No test looks
// at how fast this machine is.
#include "apps/quantize/estimate/estimate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "lib/base/process_memory.h"
#include "tests/unit/calib/driver/tiny_model.h"

namespace lathe {
namespace {

using ::testing::HasSubstr;

bool is_rate(double rate) { return std::isfinite(rate) && rate > 0; }

const Rates& rates() {
  static const Rates measured = measure_rates(testing::tiny_graph(), 32, {.mean_abs = true}, {});
  return measured;
}

TEST(Rates, AllAreMeasured) {
  for (const auto rate : {&Rates::products, &Rates::attention, &Rates::values, &Rates::gram, &Rates::observed,
                          &Rates::factors, &Rates::passes, &Rates::probabilities})
    EXPECT_TRUE(is_rate(rates().*rate));
}

// Shapes of Llama 3 70B: a probe is as small as those of a small model.
TEST(Rates, OfALargeModelTakeLittleMemory) {
  ModelGraph graph = testing::tiny_graph();
  Linear& largest = graph.blocks.front().linears.front();
  largest.out = 28672;
  largest.in = 8192;
  const uint64_t before = peak_rss_bytes();
  const Rates measured = measure_rates(graph, 0, {}, {});
  // (What the kernel counts may fall by some pages: threads keep their own until they are added up.)
  EXPECT_LT(peak_rss_bytes(), before + (uint64_t{200} << 20));
  EXPECT_TRUE(is_rate(measured.products) && is_rate(measured.factors) && is_rate(measured.passes));
  EXPECT_EQ(measured.attention, 0);  // nothing is run
}

TEST(Rates, EverySolverIsTimedOnEveryGridThatItTakes) {
  const std::vector<Scheme> schemes = {
      {.bits = 4, .group_size = 64, .symmetric = false},
      {.bits = 8, .group_size = -1},
      {.bits = 3, .group_size = 16, .symmetric = false, .scale_grid = ScaleGrid{3, 16}},
      {.bits = 4, .group_size = 64, .symmetric = false, .real_zero = true},
      {.bits = 4, .group_size = 64, .symmetric = false, .real_zero = true, .axis = 0},
      Scheme::of_floats("nvfp4"),
      Scheme::of_floats("mxfp4"),
      Scheme::of_floats("fp8_e4m3", 1, -1),
      Scheme::of_floats("fp8_e4m3", -1, -1),
      Scheme::of_floats("fp8_e4m3", 128, 128),
      Scheme::as_they_are()};
  for (const SolverEntry& entry : solvers()) {
    int timed = 0;
    for (const Scheme& scheme : schemes) {
      if (entry.refuses(scheme)) continue;
      ++timed;
      const auto solver = entry.make(Options(entry.options));
      const AlgorithmRate rate = measure_solver(*solver, scheme, 96, rates(), {});
      const Work work = solver->work({640}, 960, scheme);
      const double seconds = rate.seconds(work, rates());
      EXPECT_TRUE(std::isfinite(seconds) && seconds >= 0) << entry.name << " " << scheme.describe();
      EXPECT_EQ(seconds > 0, work.flops() > 0) << entry.name << " " << scheme.describe();
    }
    EXPECT_GT(timed, 0) << entry.name;
  }
}

TEST(Rates, EveryTransformIsTimed) {
  const Scheme scheme{.bits = 4, .group_size = 64, .symmetric = false};
  const ScaleEdge edge{.producer = "norm", .input = {Slot::attention_in, std::nullopt}};
  for (const TransformEntry& entry : transforms()) {
    if (entry.rotates) continue;  // the driver does it, and no job has it as a transform
    const auto transform = entry.make(Options(entry.options));
    for (const auto& activations : {std::optional<ActivationScheme>(), std::optional(ActivationScheme{})}) {
      const AlgorithmRate rate = measure_transform(*transform, scheme, activations, 128, rates(), {});
      EXPECT_TRUE(is_rate(rate.seconds(transform->fold_work(edge, 100, 128), rates()))) << entry.name;
    }
  }
  for (const GgmlType type : {GgmlType::Q4_0, GgmlType::Q4_K, GgmlType::IQ4_XS})
    EXPECT_TRUE(is_rate(measure_blocks(type, true)));
}

// More tokens take longer; so do more heads, of which a probe has few.
TEST(Rates, FitsOfKvCachesAreTimed) {
  const ModelConfig& config = testing::tiny_graph().config;
  for (const KvCacheScheme& scheme :
       {KvCacheScheme{.type = "kvquant", .bits = 4, .value_bits = 4, .sink = 1, .outliers = 0.01},
        KvCacheScheme{
            .type = "skvq", .bits = 2, .value_bits = 2, .group_size = 16, .window = 8, .sink = 2}}) {
    const double few = measure_cache_fit(scheme, config, 64, 64, {});
    EXPECT_TRUE(is_rate(few)) << scheme.type;
    EXPECT_GT(measure_cache_fit(scheme, config, 64, 16384, {}), 2 * few) << scheme.type;
  }
}

TEST(Rates, SecondsAreSharesOfTheLibrarysAndOwnRoundings) {
  Rates known;
  known.products = 100;
  known.factors = 10;
  const Work work{.products = 300, .factors = 20, .roundings = 7};
  EXPECT_DOUBLE_EQ((AlgorithmRate{.share = 1, .rounding = 0.5}).seconds(work, known), 3 + 2 + 3.5);
  EXPECT_DOUBLE_EQ((AlgorithmRate{.share = 0.5, .rounding = 0}).seconds(work, known), 2.5);
}

TEST(Estimate, IsSaidForPeopleAndPrograms) {
  const Estimate estimate{
      .stages = {{"forward", 1.5e12, 90}, {"solver rtn", 2e6, 0.04}, {"evaluate", 5e11, 9000}},
      .device = "cpu, 2 threads"};
  EXPECT_DOUBLE_EQ(estimate.flops(), 2.000002e12);
  EXPECT_DOUBLE_EQ(estimate.seconds(), 9090.04);
  const std::string text = describe_estimate(estimate);
  EXPECT_THAT(text,
              HasSubstr("work       2 TFLOP, about 2.5 h here (cpu, 2 threads, as fast as it is now)\n"));
  EXPECT_THAT(text, HasSubstr("1.5 TFLOP     90 s  forward\n"));
  EXPECT_THAT(text, HasSubstr("2 MFLOP    0.0 s  solver rtn\n"));
  EXPECT_THAT(text, HasSubstr("500 GFLOP    2.5 h  evaluate\n"));
  const nlohmann::json json = estimate_json(estimate);
  EXPECT_EQ(json.at("device"), "cpu, 2 threads");
  EXPECT_EQ(json.at("stages").size(), 3u);
  EXPECT_EQ(json.at("stages")[1],
            (nlohmann::json{{"name", "solver rtn"}, {"flops", 2e6}, {"seconds", 0.04}}));
  EXPECT_DOUBLE_EQ(json.at("seconds").get<double>(), 9090.04);
}

}  // namespace
}  // namespace lathe
