// The one pass is truly sequential: each linear's statistics come from the already quantised part before it.
#include "calib/driver/driver.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "lib/base/error.h"
#include "lib/model/forward.h"
#include "tests/unit/calib/driver/tiny_model.h"

namespace lathe {
namespace {

/// RTN that writes down the statistics it was shown.
class RecordingSolver : public Solver {
 public:
  explicit RecordingSolver(std::map<std::string, at::Tensor>& grams, bool pair = false)
      : grams_(grams), pair_(pair) {
    for (const SolverEntry& entry : solvers()) {
      if (entry.name == "rtn") rtn_ = entry.make(Options(entry.options));
    }
  }
  StatSet needs() const override {
    StatSet set{.gram = true, .mean_abs = true};
    set.cross_gram = pair_;
    return set;
  }
  std::vector<SolveResult> solve(const SharedInputProblem& problem) const override {
    for (const LinearProblem& linear : problem.linears) {
      grams_[linear.name] = problem.stats->gram.clone();
      if (pair_) grams_[linear.name + " cross"] = problem.stats->cross_gram.clone();
    }
    return rtn_->solve(problem);
  }

 private:
  std::map<std::string, at::Tensor>& grams_;
  bool pair_ = false;
  std::unique_ptr<Solver> rtn_;
};

/// Moves fixed scales along every edge.
class FixedScales : public Transform {
 public:
  StatSet needs() const override { return {}; }
  FoldDecision fold(const ScaleEdge& edge, const SharedInputProblem& problem) const override {
    const int64_t width = problem.linears.front().weight.size(1);
    at::Tensor scales = at::linspace(0.5, 2.0, width);
    if (edge.repeat > 1) {
      scales = scales.view({-1, edge.repeat, edge.head_dim})
                   .select(1, 0)
                   .unsqueeze(1)
                   .expand({-1, edge.repeat, -1})
                   .reshape(-1);
    }
    return {.scales = scales.contiguous(), .ratio = 0, .loss_before = 0, .loss_after = 0, .note = ""};
  }
  std::optional<GroupRange> range(const LinearProblem&, const InputStats&) const override {
    return std::nullopt;
  }
};

struct TinyRun {
  ModelGraph graph = testing::tiny_graph();
  testing::MemoryWeights weights = testing::random_weights(graph, 11);
  std::map<std::string, at::Tensor> grams;
  RecordingSolver solver;
  std::vector<BlockOutcome> outcomes;
  CalibrationJob job;

  explicit TinyRun(std::vector<const Transform*> transforms, bool pair = false) : solver(grams, pair) {
    job.graph = &graph;
    job.weights = &weights;
    job.transforms = std::move(transforms);
    const Scheme scheme{.type = "int", .bits = 4, .group_size = 32, .symmetric = true};
    for (const Block& block : graph.blocks)
      job.tasks.emplace_back(block.linears.size(), LinearTask{&solver, scheme});
    at::manual_seed(3);
    job.ids = at::randint(0, 50, {200, 16}, at::kLong);  // more tokens than one micro-batch holds
  }
  void go() {
    calibrate(job,
              {.block_done = [&](BlockOutcome&& o) { outcomes.push_back(std::move(o)); }, .progress = {}});
  }
};

using Values = std::map<std::string, at::Tensor>;  // by linear name: what it reads, Double [tokens, in]

/// What every linear reads in a plain forward pass of a model.
Values values_of(const TinyRun& run, const WeightSource& source) {
  Values values;
  at::Tensor hidden = embed(run.graph, source.load("model.embed_tokens.weight"), run.job.ids);
  const RopeTables rope = rope_tables(run.graph.config, run.job.ids.size(1), c10::Device(c10::kCPU));
  for (const Block& block : run.graph.blocks) {
    const BlockWeights weights(block, source, c10::Device(c10::kCPU));
    const BlockForward forward(run.graph.config, block, weights, rope);
    const auto record = [&](Slot slot, const at::Tensor& x) {
      for (const Linear* linear : block.reading(slot))
        values[linear->name] = x.reshape({-1, x.size(-1)}).to(at::kDouble);
    };
    const at::Tensor x = forward.attention_in(hidden);
    const at::Tensor a = forward.attention_out(x);
    const at::Tensor h = forward.add_attention(hidden, a);
    const at::Tensor y = forward.mlp_in(h);
    const at::Tensor z = forward.mlp_mid(y);
    record(Slot::attention_in, x);
    record(Slot::attention_out, a);
    record(Slot::mlp_in, y);
    record(Slot::mlp_mid, z);
    hidden = forward.add_mlp(h, z);
  }
  return values;
}

/// The model that a run made, dequantised.
testing::MemoryWeights finished_model(const TinyRun& run) {
  testing::MemoryWeights finished = run.weights;
  for (const BlockOutcome& outcome : run.outcomes) {
    for (const LinearOutcome& linear : outcome.linears) {
      finished.tensors[linear.linear->name + ".weight"] = linear.quantized.dequantize();
    }
    for (const auto& [name, tensor] : outcome.changed) finished.tensors[name] = tensor;
  }
  return finished;
}

at::Tensor product_of(const at::Tensor& a, const at::Tensor& b) {
  return (a.t().mm(b) / a.size(0)).to(at::kFloat);
}

void expect_near(const at::Tensor& found, const at::Tensor& expected, double bound, const std::string& name) {
  ASSERT_TRUE(found.defined()) << name;
  EXPECT_LT(((found - expected).norm() / expected.norm()).item<double>(), bound) << name;
}

/// The Gram matrices that a plain forward pass of the finished model gives, by linear.
std::map<std::string, at::Tensor> grams_of_result(const TinyRun& run) {
  std::map<std::string, at::Tensor> grams;
  for (const auto& [name, x] : values_of(run, finished_model(run))) grams[name] = product_of(x, x);
  return grams;
}

void expect_sequential(const TinyRun& run, double bound) {
  const auto expected = grams_of_result(run);
  ASSERT_EQ(expected.size(), 14u);
  for (const auto& [name, gram] : expected) {
    const double difference = ((run.grams.at(name) - gram).norm() / gram.norm()).item<double>();
    EXPECT_LT(difference, bound) << name;
  }
}

TEST(Driver, StatisticsComeFromTheQuantisedPartBefore) {
  TinyRun run({});
  run.go();
  ASSERT_EQ(run.outcomes.size(), 2u);
  EXPECT_EQ(run.outcomes[0].linears.size(), 7u);
  expect_sequential(run, 1e-5);
}

TEST(Driver, FoldedStatisticsAreThoseOfTheFoldedModel) {
  const FixedScales transform;
  TinyRun run({&transform});
  run.go();
  EXPECT_EQ(run.outcomes[1].folds.size(), 4u);
  expect_sequential(run, 3e-3);  // folds into solved producers round their F16 scales
}

TEST(Driver, KeptLinearsAreNotTouchedWithoutFolds) {
  TinyRun run({});
  for (auto& block : run.job.tasks) {
    for (LinearTask& task : block) task.solver = nullptr;
  }
  run.job.tasks[1][6] = {&run.solver, Scheme{.type = "int", .bits = 8, .group_size = -1, .symmetric = true}};
  run.go();
  EXPECT_TRUE(run.outcomes[0].linears.empty());
  EXPECT_TRUE(run.outcomes[0].changed.empty());
  ASSERT_EQ(run.outcomes[1].linears.size(), 1u);
  EXPECT_EQ(run.outcomes[1].linears[0].linear->role, LinearRole::down_proj);
  EXPECT_LT(run.outcomes[1].linears[0].distortion.output_relative_error.value(), 1e-3);
  EXPECT_GT(run.outcomes[1].linears[0].distortion.output_relative_error.value(), 0);
}

TEST(Driver, ReferencePropagationLooksAtTheUnquantisedModel) {
  const FixedScales fold;
  for (const bool folds : {false, true}) {
    TinyRun run(folds ? std::vector<const Transform*>{&fold} : std::vector<const Transform*>{});
    run.job.propagate = Propagate::reference;
    run.go();
    const Values values = values_of(run, run.weights);
    for (const auto& [name, x] : values) {
      at::Tensor expected = product_of(x, x);
      if (folds) {  // the input of a folded linear is divided by the scales, in the unquantised model too
        const at::Tensor scales = expected.diagonal().div(run.grams.at(name).diagonal()).sqrt();
        EXPECT_GT(scales.max().item<float>() / scales.min().item<float>(), 2) << name;
        expected = expected / at::outer(scales, scales);
      }
      expect_near(run.grams.at(name), expected, 1e-5, name);
    }
  }
}

TEST(Driver, BothStreamsForAlgorithmsThatCompareThem) {
  TinyRun run({}, /*pair=*/true);
  EXPECT_TRUE(carries_two_streams(run.job));
  run.go();
  const Values values = values_of(run, finished_model(run)), reference = values_of(run, run.weights);
  for (const auto& [name, x] : values) {
    expect_near(run.grams.at(name), product_of(x, x), 1e-5, name);
    expect_near(run.grams.at(name + " cross"), product_of(reference.at(name), x), 1e-5, name);
  }
  // They differ, or the comparison would show nothing.
  const std::string last = "model.layers.1.mlp.down_proj";
  EXPECT_GT((run.grams.at(last + " cross") - run.grams.at(last)).norm().item<double>(),
            0.01 * run.grams.at(last).norm().item<double>());
}

TEST(Driver, TheReferenceIsItsOwnPair) {
  TinyRun run({}, /*pair=*/true);
  run.job.propagate = Propagate::reference;
  EXPECT_FALSE(carries_two_streams(run.job));
  run.go();
  for (const auto& [name, x] : values_of(run, run.weights)) {
    expect_near(run.grams.at(name + " cross"), run.grams.at(name), 1e-6, name);
  }
}

TEST(Driver, PaddingCountsInNoStatistic) {
  TinyRun run({});
  for (int64_t i = 0; i < run.job.ids.size(0); ++i) run.job.lengths.push_back(1 + i % run.job.ids.size(1));
  TinyRun other({});
  other.job.lengths = run.job.lengths;
  for (size_t i = 0; i < run.job.lengths.size(); ++i) {
    const auto row = static_cast<int64_t>(i);
    other.job.ids[row].narrow(0, run.job.lengths[i], 16 - run.job.lengths[i]).random_(0, 50);
  }
  run.go();
  other.go();
  const Values values = values_of(run, finished_model(run));
  for (const auto& [name, x] : values) {
    std::vector<at::Tensor> valid;
    for (size_t i = 0; i < run.job.lengths.size(); ++i) {
      valid.push_back(x.narrow(0, static_cast<int64_t>(i) * 16, run.job.lengths[i]));
    }
    const at::Tensor counted = at::cat(valid);
    expect_near(run.grams.at(name), product_of(counted, counted), 1e-5, name);
    EXPECT_TRUE(at::equal(run.grams.at(name), other.grams.at(name))) << name << ": other padding, other bits";
  }
}

TEST(Driver, ANaNNamesBlockInputSampleAndToken) {
  TinyRun run({});
  run.job.ids.masked_fill_(run.job.ids.eq(7), 8);
  run.job.ids[12][3] = 7;
  run.weights.tensors["model.embed_tokens.weight"][7][0] = INFINITY;
  try {
    run.go();
    FAIL() << "a NaN went unnoticed";
  } catch (const UserError& error) {
    for (const char* part : {"model.layers.0", "attention_in", "sample 12, token 3"}) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << part << " in " << error.what();
    }
  }
}

/// Everything that a run hands over, as one list of tensors.
std::vector<at::Tensor> results_of(const StreamStorage& storage, const Transform* transform,
                                   DType compute = DType::F32) {
  TinyRun run(transform == nullptr ? std::vector<const Transform*>{} : std::vector{transform});
  run.job.storage = storage;
  run.job.storage.hidden.work = std::filesystem::temp_directory_path();
  run.job.compute = compute;
  run.go();
  std::vector<at::Tensor> results;
  for (const BlockOutcome& outcome : run.outcomes) {
    for (const LinearOutcome& linear : outcome.linears) {
      results.push_back(linear.quantized.codes);
      results.push_back(linear.quantized.scales);
      results.push_back(at::tensor(linear.distortion.output_relative_error.value(), at::kDouble));
    }
    for (const auto& [name, values] : outcome.changed) results.push_back(values);
  }
  for (const auto& [name, gram] : run.grams) results.push_back(gram);
  return results;
}

TEST(Driver, TheSameBitsWhereverActivationsStand) {
  const FixedScales fold;
  for (const Transform* transform :
       {static_cast<const Transform*>(nullptr), static_cast<const Transform*>(&fold)}) {
    const std::vector<at::Tensor> expected = results_of({}, transform);
    for (const Placement hidden : {Placement::device, Placement::disk}) {
      for (const std::optional<Placement> inner :
           {std::optional<Placement>{}, std::optional(Placement::device), std::optional(Placement::disk)}) {
        for (const int64_t transfer : {0, 64, 1000}) {
          const auto found = results_of(
              {.hidden = {.placement = hidden, .transfer_rows = transfer, .work = {}}, .inner = inner},
              transform);
          ASSERT_EQ(found.size(), expected.size());
          for (size_t i = 0; i < found.size(); ++i) {
            ASSERT_TRUE(at::equal(found[i], expected[i]))
                << "tensor " << i << ", hidden on " << name_of(hidden) << ", inner "
                << (inner ? name_of(*inner) : "made twice") << ", " << transfer << " rows moved at a time";
          }
        }
      }
    }
  }
}

TEST(Driver, HalfPrecisionProductsGiveTheSameBitsWhereverActivationsStand) {
  const FixedScales fold;
  const std::vector<at::Tensor> expected = results_of({}, &fold, DType::BF16);
  for (const std::optional<Placement> inner : {std::optional<Placement>{}, std::optional(Placement::disk)}) {
    const auto found = results_of(
        {.hidden = {.placement = Placement::disk, .transfer_rows = 64, .work = {}}, .inner = inner}, &fold,
        DType::BF16);
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) EXPECT_TRUE(at::equal(found[i], expected[i])) << "tensor " << i;
  }
}

TEST(Driver, HalfPrecisionProductsGiveNearlyTheSameStatistics) {
  TinyRun exact({}), half({});
  half.job.compute = DType::BF16;
  exact.go();
  half.go();
  ASSERT_EQ(half.grams.size(), exact.grams.size());
  for (const auto& [name, gram] : exact.grams) {
    const double difference = ((half.grams.at(name) - gram).norm() / gram.norm()).item<double>();
    EXPECT_LT(difference, 0.02) << name;  // BF16 has 8 bits of mantissa; a Gram matrix averages over tokens
    EXPECT_GT(difference, 0) << name;
  }
}

TEST(Driver, ActivationsThatAreNotFiniteNameTheirPlace) {
  TinyRun run({});
  run.weights.tensors["model.layers.1.post_attention_layernorm.weight"].fill_(3e38f);
  run.weights.tensors["model.layers.1.mlp.up_proj.weight"].fill_(3e38f);
  try {
    run.go();
    FAIL() << "an infinite activation went unnoticed";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("model.layers.1"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace lathe
