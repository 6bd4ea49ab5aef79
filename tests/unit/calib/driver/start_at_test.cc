// A run that begins at a later block with the hidden states of an earlier run comes to the same, bit for bit.
#include <gtest/gtest.h>

#include "lib/numeric/quantized_tensor.h"
#include "tests/unit/calib/driver/tiny_model.h"

namespace lathe {
namespace {

using testing::FixedScales;
using testing::RecordingSolver;

struct SmallRun {
  explicit SmallRun(bool pair, Placement placement, const std::string& family = "llama")
      : graph(testing::family_graph(family, 64, 3)), solver(pair) {
    job.graph = &graph;
    job.weights = &weights;
    job.transforms = {&transform};
    const Scheme scheme{.type = "int", .bits = 4, .group_size = 32, .symmetric = true};
    for (const Block& block : graph.blocks)
      job.tasks.emplace_back(block.linears.size(), LinearTask{&solver, scheme});
    at::manual_seed(3);
    job.ids = at::randint(0, 50, {80, 16}, at::kLong);  // more tokens than one micro-batch holds
    job.storage.hidden = {
        .placement = placement, .transfer_rows = 0, .work = std::filesystem::temp_directory_path()};
  }
  std::vector<BlockOutcome> go(const StartAt& start = {}) {
    std::vector<BlockOutcome> outcomes;
    states.clear();
    calibrate(job,
              {.block_done = [&](BlockOutcome&& o) { outcomes.push_back(std::move(o)); },
               .progress = {},
               .boundary =
                   [&](size_t next, const auto& hand_over) {
                     hand_over([&](const at::Tensor& piece) { states[next].push_back(piece.clone()); });
                   }},
              start);
    return outcomes;
  }

  ModelGraph graph;
  testing::MemoryWeights weights = testing::random_weights(graph, 11);
  RecordingSolver solver;
  FixedScales transform;
  CalibrationJob job;
  std::map<size_t, std::vector<at::Tensor>> states;  // by the block that begins with them
};

void expect_same(const BlockOutcome& found, const BlockOutcome& expected) {
  EXPECT_EQ(found.index, expected.index);
  ASSERT_EQ(found.linears.size(), expected.linears.size());
  for (size_t i = 0; i < expected.linears.size(); ++i) {
    EXPECT_TRUE(at::equal(found.linears[i].quantized.codes, expected.linears[i].quantized.codes));
    EXPECT_TRUE(at::equal(found.linears[i].quantized.scales, expected.linears[i].quantized.scales));
    EXPECT_EQ(found.linears[i].distortion.output_relative_error,
              expected.linears[i].distortion.output_relative_error);
  }
}

void expect_goes_on(SmallRun& run) {
  const std::vector<BlockOutcome> whole = run.go();
  ASSERT_EQ(whole.size(), 3u);
  const auto states = run.states;
  ASSERT_EQ(states.size(), 2u) << "between blocks, not after the last";
  for (const auto& [block, pieces] : states) {
    size_t next = 0;
    const std::vector<BlockOutcome> rest = run.go({block, [&, &pieces = pieces](at::Tensor& piece) {
                                                     ASSERT_LT(next, pieces.size());
                                                     piece.copy_(pieces[next++]);
                                                   }});
    EXPECT_EQ(next, pieces.size());
    ASSERT_EQ(rest.size(), 3 - block);
    for (size_t i = 0; i < rest.size(); ++i) expect_same(rest[i], whole[block + i]);
  }
  EXPECT_TRUE(run.go({3, nullptr}).empty()) << "nothing is left to do";
}

TEST(StartAt, AnyBlock) {
  SmallRun run(false, Placement::device);
  expect_goes_on(run);
}

TEST(StartAt, TwoStreams) {
  SmallRun run(true, Placement::device), one(false, Placement::device);
  expect_goes_on(run);
  run.go();
  one.go();
  EXPECT_EQ(run.states[1].size(), 2 * one.states[1].size());
}

TEST(StartAt, StatesOnDisk) {
  SmallRun run(true, Placement::disk);
  expect_goes_on(run);
}

TEST(StartAt, Experts) {
  SmallRun run(false, Placement::device, "qwen3_moe");
  expect_goes_on(run);
}

}  // namespace
}  // namespace lathe
