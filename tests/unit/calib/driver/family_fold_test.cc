// apply_fold() through every edge of every family: norms that are 1 + w, rows of fused weights, experts.
#include "calib/driver/fold.h"
#include "tests/unit/calib/driver/rounded_weight.h"
#include "tests/unit/model/test_model.h"

namespace lathe {
namespace {

BlockState state_of(SmallModel& model, DType dtype) {
  return {.block = &model.block(),
          .weights = &model.weights,
          .float_dtype = dtype,
          .to_solve = {},
          .solved = {},
          .changed = {}};
}

/// Random scales of the consumers' columns that respect repeated heads.
at::Tensor scales_for(const Block& block, const ScaleEdge& edge) {
  const int64_t width = block.consumers(edge).front()->in;
  const at::Tensor scales = at::rand({width / edge.repeat}) * 3 + 0.2;
  if (edge.repeat == 1) return scales;
  return scales.view({-1, 1, edge.head_dim})
      .expand({-1, edge.repeat, edge.head_dim})
      .reshape(-1)
      .contiguous();
}

/// Calls visit(model, edge) with a fresh model for each edge of each family.
template <class Visit>
void for_each_edge(Visit&& visit) {
  for (const std::string& family : all_families()) {
    const size_t edges = SmallModel(family_config(family)).block().edges.size();
    for (size_t e = 0; e < edges; ++e) {
      SmallModel model(family_config(family));
      SCOPED_TRACE(family + ", " + model.block().edges[e].producer);
      visit(model, model.block().edges[e]);
    }
  }
}

TEST(FamilyFold, EveryEdgeKeepsTheFunction) {
  for_each_edge([](SmallModel& model, const ScaleEdge& edge) {
    const at::Tensor hidden = random_hidden(2, 9), before = model.run(hidden);
    BlockState state = state_of(model, DType::F32);
    const at::Tensor scales = scales_for(model.block(), edge);
    EXPECT_LT(relative_difference(apply_fold(state, edge, scales), scales), 1e-5);
    EXPECT_LT(relative_difference(model.run(hidden), before), 1e-5);
    EXPECT_TRUE(state.changed.contains(edge.producer + ".weight"));
    for (const Linear* consumer : model.block().consumers(edge)) {
      EXPECT_TRUE(state.changed.contains(consumer->name + ".weight")) << consumer->name;
    }
  });
}

TEST(FamilyFold, RoundedNormWeightsAreCompensatedExactly) {
  for_each_edge([](SmallModel& model, const ScaleEdge& edge) {
    if (edge.producer_kind != ScaleEdge::Producer::norm) return;
    const at::Tensor hidden = random_hidden(2, 9), before = model.run(hidden);
    BlockState state = state_of(model, DType::BF16);  // without compensation the error would be near 1e-3
    for (const Linear* consumer : model.block().consumers(edge)) state.to_solve.insert(consumer->name);
    apply_fold(state, edge, scales_for(model.block(), edge));
    const at::Tensor stored = state.changed.at(edge.producer + ".weight");
    EXPECT_TRUE(at::equal(stored, stored.to(at::kBFloat16).to(at::kFloat)));
    EXPECT_LT(relative_difference(model.run(hidden), before), 1e-5);
  });
}

TEST(FamilyFold, ANormOfOnePlusWThatWouldVanishKeepsItsChannel) {
  SmallModel model(family_config("gemma2"));
  const ScaleEdge& edge = model.block().edges.front();
  const at::Tensor hidden = random_hidden(2, 9), before = model.run(hidden);
  BlockState state = state_of(model, DType::BF16);
  for (const Linear* consumer : model.block().consumers(edge)) state.to_solve.insert(consumer->name);
  at::Tensor scales = at::ones({32});
  scales[3] = 1e6;   // 1 + w' would be 0 in BF16: w' = -1
  scales[5] = 1e-3;  // fine: w' is near 1000
  const at::Tensor effective = apply_fold(state, edge, scales);
  EXPECT_EQ(effective[3].item<float>(), 1.0f);
  EXPECT_NEAR(effective[5].item<float>(), 1e-3f, 1e-5f);
  EXPECT_LT(relative_difference(model.run(hidden), before), 1e-5);
}

TEST(FamilyFold, SolvedProducersKeepTheirCodes) {
  for_each_edge([](SmallModel& model, const ScaleEdge& edge) {
    if (edge.producer_kind != ScaleEdge::Producer::linear) return;
    const auto& linears = model.block().linears;
    const Linear& producer = *std::ranges::find(linears, edge.producer, &Linear::name);
    const Scheme scheme{.type = "int", .bits = 8, .group_size = 8, .symmetric = true};
    QuantizedTensor q = testing::round_weight(model.weights, producer, scheme);
    const at::Tensor hidden = random_hidden(2, 9), before = model.run(hidden), codes = q.codes.clone();
    const at::Tensor row_scales = q.scales.clone();
    BlockState state = state_of(model, DType::F32);
    state.solved[edge.producer] = std::move(q);
    apply_fold(state, edge, scales_for(model.block(), edge));
    const QuantizedTensor& folded = state.solved[edge.producer];
    EXPECT_TRUE(at::equal(folded.codes, codes));
    EXPECT_TRUE(at::equal(folded.scales.slice(0, 0, edge.first_row), row_scales.slice(0, 0, edge.first_row)))
        << "rows before the edge's are not its business";
    EXPECT_LT(relative_difference(model.run(hidden), before), 2e-3)
        << "only the F16 rounding of scales may show";
  });
}

}  // namespace
}  // namespace lathe
