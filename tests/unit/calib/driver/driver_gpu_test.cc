// A calibrated run on a CUDA device: the same bytes wherever its activations stand, statistics as on the CPU.
// Needs a GPU; where there is none, the CPU stands in for it (DriverRehearsal), so that the checks themselves
// are checked.
#include <gtest/gtest.h>

#include <filesystem>

#include "calib/driver/driver.h"
#include "lib/tensor/device.h"
#include "tests/unit/calib/driver/tiny_model.h"

namespace lathe {
namespace {

constexpr int64_t kLength = 16;

struct Settings {
  std::string family;
  c10::Device device;
  DType compute = DType::F32;
  StreamStorage storage;
  bool folds = true;
  int64_t samples = 150;
};

/// On a GPU: three chunks of 8,192 tokens, and more than the 16,384 that a Gram matrix adds in FP32.
int64_t samples_for(c10::Device device) { return device.is_cpu() ? 150 : 1300; }

using Results = std::map<std::string, at::Tensor>;

/// Several chunks, the last one shorter, and some samples padded. Everything that the run showed its solver
/// and handed over, on the CPU.
Results run(const Settings& settings) {
  const ModelGraph graph = testing::family_graph(settings.family, 64);
  const testing::MemoryWeights weights = testing::random_weights(graph, 11);
  const testing::RecordingSolver solver(/*pair=*/true);
  const testing::FixedScales transform;
  CalibrationJob job;
  job.graph = &graph;
  job.weights = &weights;
  if (settings.folds) job.transforms = {&transform};
  const Scheme scheme{.type = "int", .bits = 4, .group_size = 32, .symmetric = true};
  for (const Block& block : graph.blocks) {
    auto& tasks = job.tasks.emplace_back();
    for (const Linear& linear : block.linears)
      tasks.push_back(word_matches(linear, "linear") ? LinearTask{&solver, scheme} : LinearTask{});
  }
  job.device = settings.device;
  job.compute = settings.compute;
  job.storage = settings.storage;
  job.storage.hidden.work = std::filesystem::temp_directory_path();
  job.experts.min_tokens = 1;
  at::manual_seed(3);
  job.ids = at::randint(0, 50, {settings.samples, kLength}, at::kLong);
  for (int64_t i = 0; i < settings.samples; ++i)
    job.lengths.push_back(i % 5 == 0 ? 1 + i % kLength : kLength);
  Results results;
  const auto keep = [&](BlockOutcome&& outcome) {
    for (const LinearOutcome& linear : outcome.linears) {
      results[linear.linear->name + ", codes"] = linear.quantized.codes;
      results[linear.linear->name + ", scales"] = linear.quantized.scales;
    }
    for (const auto& [name, values] : outcome.changed) results[name] = values;
    if (outcome.expert_tokens.empty()) return;
    results["tokens of block " + std::to_string(outcome.index)] =
        at::tensor(outcome.expert_tokens, at::kLong);
  };
  calibrate(job, {.block_done = keep, .progress = {}});
  for (const auto& [name, stats] : solver.seen) {
    results[name] = stats.gram.cpu();
    results[name + ", both streams"] = stats.cross_gram.cpu();
    results[name + ", mean |x|"] = stats.mean_abs.cpu();
  }
  return results;
}

StreamStorage stored(Placement hidden, std::optional<Placement> inner, int64_t transfer_rows) {
  return {.hidden = {.placement = hidden, .transfer_rows = transfer_rows, .work = {}},
          .micro_batch = 0,
          .inner = inner};
}

void expect_same_bits_wherever_activations_stand(c10::Device device, DType compute) {
  using P = Placement;
  const int64_t samples = samples_for(device);
  const std::pair<P, std::optional<P>> places[] = {
      {P::device, std::nullopt}, {P::host, std::nullopt}, {P::disk, std::nullopt}, {P::disk, P::disk}};
  for (const char* family : {"qwen2", "qwen2_moe"}) {
    const Results expected = run({family, device, compute, stored(P::device, P::device, 0), true, samples});
    for (const auto& [hidden, inner] : places) {
      for (const int64_t transfer : {0, 1024}) {
        if (hidden == P::device && transfer > 0) continue;  // nothing is moved
        const Results found = run({family, device, compute, stored(hidden, inner, transfer), true, samples});
        ASSERT_EQ(found.size(), expected.size());
        for (const auto& [name, values] : expected) {
          ASSERT_TRUE(at::equal(found.at(name), values))
              << family << ", hidden on " << name_of(hidden) << ", inner "
              << (inner ? name_of(*inner) : "made twice") << ", " << transfer << " rows: " << name;
        }
      }
    }
  }
}

/// Rounding to nearest looks at weights only: all codes are the same, and statistics differ by rounding. A
/// token whose experts are nearly tied may go to another one: three in the counts, and what they weigh.
void expect_the_cpus_statistics(const Settings& settings, double bound) {
  Settings reference = settings;
  reference.compute = DType::F32;
  reference.device = at::kCPU;
  const Results found = run(settings), expected = run(reference);
  ASSERT_EQ(found.size(), expected.size());
  for (const auto& [name, values] : expected) {
    const at::Tensor difference = found.at(name).to(at::kDouble) - values.to(at::kDouble);
    const double scale = values.to(at::kDouble).norm().item<double>();
    if (name.ends_with("codes") || name.ends_with("scales")) {
      EXPECT_TRUE(at::equal(found.at(name), values)) << name;
    } else if (name.starts_with("tokens")) {
      EXPECT_LE(difference.abs().max().item<double>(), 3) << name;
    } else {
      EXPECT_LE(difference.norm().item<double>(), bound * scale) << name;
    }
  }
}

void expect_agreement(c10::Device device) {
  const int64_t samples = samples_for(device);
  const StreamStorage spilled = stored(Placement::disk, std::nullopt, 0);
  expect_the_cpus_statistics({"qwen2", device, DType::F32, spilled, /*folds=*/false, samples}, 1e-4);
  expect_the_cpus_statistics({"qwen2", device, DType::F16, spilled, /*folds=*/false, samples}, 3e-3);
  expect_the_cpus_statistics({"qwen2", device, DType::BF16, spilled, /*folds=*/false, samples}, 2e-2);
  expect_the_cpus_statistics({"qwen2_moe", device, DType::F32, spilled, /*folds=*/false, samples}, 3e-3);
}

TEST(DriverGpu, TheSameBitsWhereverActivationsStand) {
  const c10::Device device = resolve_device("auto");
  if (!device.is_cuda()) GTEST_SKIP() << "no CUDA device on this machine";
  for (const DType compute : {DType::F32, DType::F16})
    expect_same_bits_wherever_activations_stand(device, compute);
}

TEST(DriverGpu, StatisticsAgreeWithTheCpu) {
  const c10::Device device = resolve_device("auto");
  if (!device.is_cuda()) GTEST_SKIP() << "no CUDA device on this machine";
  expect_agreement(device);
}

TEST(DriverRehearsal, TheSameBitsWhereverActivationsStand) {
  for (const DType compute : {DType::F32, DType::F16})
    expect_same_bits_wherever_activations_stand(at::kCPU, compute);
}

TEST(DriverRehearsal, HalvesAgreeWithFp32) { expect_agreement(at::kCPU); }

}  // namespace
}  // namespace lathe
