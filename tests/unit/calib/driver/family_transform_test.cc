// AWQ's and SmoothQuant's own scales through every edge of every family: the block computes what it did.
#include "calib/driver/fold.h"
#include "calib/stats/stats_collector.h"
#include "tests/unit/calib/driver/tiny_model.h"
#include "tests/unit/model/test_model.h"

namespace lathe {
namespace {

/// What the consumers of an edge read, [tokens, in].
at::Tensor values_at(const SmallModel& model, const Input& input, const at::Tensor& hidden) {
  const RopeTables rope = rope_tables(model.graph.config, hidden.size(1), at::kCPU);
  const BlockForward forward(model.graph.config, model.block(), model.weights, rope);
  const at::Tensor x = forward.attention_in(hidden);
  if (input.slot == Slot::attention_in) return x.flatten(0, 1);
  const at::Tensor a = forward.attention_out(x);
  if (input.slot == Slot::attention_out) return a.flatten(0, 1);
  const at::Tensor y = forward.mlp_in(forward.add_attention(hidden, a)).flatten(0, 1);
  if (input.slot == Slot::mlp_in) return y;
  if (!input.expert) return forward.mlp_mid(y);
  return forward.expert_mid(*input.expert, y.index_select(0, forward.route(y).rows_of(*input.expert).tokens));
}

InputStats stats_of(const at::Tensor& x) {
  StatsCollector collector({.gram = true, .mean_abs = true, .min_max = true}, x.size(-1), c10::kCPU, "edge");
  collector.observe(x);
  return collector.finish();
}

std::unique_ptr<Transform> make(const std::string& name,
                                const std::vector<std::pair<std::string, OptionValue>>& changes) {
  for (const TransformEntry& row : transforms()) {
    if (row.name != name) continue;
    Options options(row.options);
    for (const auto& [key, value] : changes) options.set(key, value);
    return row.make(options);
  }
  throw std::runtime_error("no transform " + name);
}

BlockState state_of(SmallModel& model) {
  return {.block = &model.block(),
          .weights = &model.weights,
          .float_dtype = DType::F32,
          .to_solve = {},
          .solved = {},
          .changed = {}};
}

/// Makes channel 2 of the edge's input (of each head, where heads share) 24 times larger; the function stays.
void inject_outlier(SmallModel& model, const ScaleEdge& edge) {
  at::Tensor scales = at::ones({model.block().consumers(edge).front()->in});
  if (edge.repeat == 1) {
    scales[2] = 1.0 / 24;
  } else {
    scales.view({-1, edge.repeat, edge.head_dim}).select(2, 2).fill_(1.0 / 24);
  }
  BlockState state = state_of(model);
  apply_fold(state, edge, scales);
}

/// The scales that a transform chooses at an edge.
FoldDecision decide(const SmallModel& model, const ScaleEdge& edge, const Transform& transform,
                    const at::Tensor& hidden) {
  const InputStats stats = stats_of(values_at(model, edge.input, hidden));
  SharedInputProblem problem{.linears = {}, .stats = &stats};
  for (const Linear* consumer : model.block().consumers(edge)) {
    if (!word_matches(*consumer, "linear")) continue;  // a router follows, but is not rounded
    const Scheme scheme{.type = "int", .bits = 4, .group_size = 8, .symmetric = true};
    problem.linears.push_back({consumer->name, consumer->role, model.weights.weight(*consumer), scheme,
                               DType::F16, std::nullopt, ActivationScheme{}});
  }
  return transform.fold(edge, problem);
}

/// All edges of a family, one after the other in one block.
void expect_function_kept(const std::string& family, const Transform& transform) {
  SmallModel model(family_config(family));
  const at::Tensor hidden = random_hidden(4, 32);
  for (const ScaleEdge& edge : model.block().edges) inject_outlier(model, edge);
  const at::Tensor before = model.run(hidden);
  for (const ScaleEdge& edge : model.block().edges) {
    SCOPED_TRACE(family + ", " + edge.producer + " -> " + name_of(edge.input));
    const FoldDecision decision = decide(model, edge, transform, hidden);
    ASSERT_TRUE(decision.scales.defined()) << decision.note;
    EXPECT_GT((decision.scales.max() / decision.scales.min()).item<double>(), 1.05);
    BlockState state = state_of(model);
    apply_fold(state, edge, decision.scales);
    EXPECT_LT(relative_difference(model.run(hidden), before), 2e-5);
  }
}

TEST(FamilyTransforms, AwqKeepsTheFunctionOnEveryEdge) {
  const auto awq = make("awq", {});
  for (const std::string& family : all_families()) expect_function_kept(family, *awq);
}

TEST(FamilyTransforms, SmoothQuantKeepsTheFunctionOnEveryEdge) {
  for (const OptionValue& alpha : {OptionValue{0.8}, OptionValue{std::string("auto")}}) {
    const auto smoothquant =
        make("smoothquant", {{"alpha", alpha}, {"attention_out", true}, {"mlp_mid", true}});
    for (const std::string& family : all_families()) expect_function_kept(family, *smoothquant);
  }
}

}  // namespace
}  // namespace lathe
