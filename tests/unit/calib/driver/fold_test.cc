// A fold through any edge leaves the block's function alone, whether the producer is a norm, a kept or a
// solved linear.
#include "calib/driver/fold.h"

#include <gtest/gtest.h>

#include "tests/unit/calib/driver/rounded_weight.h"
#include "tests/unit/calib/driver/tiny_model.h"

namespace lathe {
namespace {

double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

class FoldTest : public ::testing::Test {
 protected:
  ModelGraph graph_ = testing::tiny_graph();
  testing::MemoryWeights source_ = testing::random_weights(graph_, 7);
  const Block& block_ = graph_.blocks[0];
  BlockWeights weights_{block_, source_, c10::Device(c10::kCPU)};
  RopeTables rope_ = rope_tables(graph_.config, 10, c10::Device(c10::kCPU));
  at::Tensor hidden_ = at::randn({2, 10, 64});

  at::Tensor output() { return BlockForward(graph_.config, block_, weights_, rope_).run(hidden_); }

  BlockState state(DType dtype) {
    return {.block = &block_,
            .weights = &weights_,
            .float_dtype = dtype,
            .to_solve = {},
            .solved = {},
            .changed = {}};
  }

  /// Random scales that respect the edge's repeated heads.
  static at::Tensor scales_for(const ScaleEdge& edge, int64_t width) {
    if (edge.repeat == 1) return at::rand({width}) * 3 + 0.2;
    const int64_t heads = width / (edge.repeat * edge.head_dim);
    return (at::rand({heads, 1, edge.head_dim}) * 3 + 0.2)
        .expand({heads, edge.repeat, edge.head_dim})
        .reshape(-1)
        .contiguous();
  }

  int64_t width_of(const ScaleEdge& edge) const { return block_.consumers(edge).front()->in; }

  QuantizedTensor quantize(const std::string& name) {
    for (const Linear& linear : block_.linears) {
      if (linear.name != name) continue;
      const Scheme scheme{.type = "int", .bits = 4, .group_size = 32, .symmetric = false};
      return testing::round_weight(weights_, linear, scheme);
    }
    throw std::logic_error("no linear " + name);
  }
};

/// A second copy of a block's weights is a sixth of the promised memory.
TEST_F(FoldTest, ConsumersAreScaledInPlaceUnlessOthersHoldThem) {
  const ScaleEdge& edge = block_.edges.back();  // up -> down
  const Linear& down = *block_.consumers(edge).front();
  const at::Tensor scales = scales_for(edge, down.in), before = weights_.weight(down).clone();
  weights_.set_weight(down, before.clone());
  const void* const memory = weights_.weight(down).data_ptr();
  BlockState s = state(DType::F32);
  s.to_solve.insert(down.name);
  apply_fold(s, edge, scales);
  EXPECT_EQ(weights_.weight(down).data_ptr(), memory);
  EXPECT_TRUE(at::equal(weights_.weight(down), before * scales));

  const BlockWeights original = weights_;
  const at::Tensor held = original.weight(down).clone();
  apply_fold(s, edge, scales);
  EXPECT_TRUE(at::equal(original.weight(down), held)) << "what another stream runs on was changed";
  EXPECT_TRUE(at::equal(weights_.weight(down), held * scales));
}

/// What is written of a solved producer changes though its values were dropped.
TEST_F(FoldTest, ASolvedProducerNeedsNoValues) {
  const ScaleEdge& edge = block_.edges.back();
  const at::Tensor scales = scales_for(edge, width_of(edge));
  BlockState s = state(DType::F16);
  s.solved[edge.producer] = quantize(edge.producer);
  const at::Tensor before = s.solved.at(edge.producer).scales.clone();
  const Linear& up = *block_.find(LinearRole::up_proj);
  weights_.drop_weight(up);
  apply_fold(s, edge, scales);
  EXPECT_FALSE(weights_.holds_weight(up));
  EXPECT_TRUE(at::equal(s.solved.at(edge.producer).scales,
                        round_to(before * scales.reciprocal().unsqueeze(1), DType::F16)));
}

TEST_F(FoldTest, EveryEdgeKeepsTheFunction) {
  ASSERT_EQ(block_.edges.size(), 4u);
  for (const ScaleEdge& edge : block_.edges) {
    const at::Tensor before = output();
    BlockState s = state(DType::F32);
    const at::Tensor scales = scales_for(edge, width_of(edge));
    const at::Tensor effective = apply_fold(s, edge, scales);
    EXPECT_LT(relative_difference(effective, scales), 1e-6) << edge.producer;
    EXPECT_LT(relative_difference(output(), before), 1e-5) << edge.producer;
    EXPECT_FALSE(s.changed.empty());
  }
}

TEST_F(FoldTest, RoundedNormWeightsAreCompensatedExactly) {
  const ScaleEdge& edge = block_.edges.front();
  ASSERT_EQ(edge.producer_kind, ScaleEdge::Producer::norm);
  const at::Tensor before = output();
  BlockState s =
      state(DType::BF16);  // 8 bits of precision: without compensation the error would be near 1e-3
  for (const Linear* reader : block_.consumers(edge)) s.to_solve.insert(reader->name);
  apply_fold(s, edge, scales_for(edge, width_of(edge)));
  const at::Tensor stored = s.changed.at(edge.producer + ".weight");
  EXPECT_TRUE(at::equal(stored, stored.to(at::kBFloat16).to(at::kFloat)));
  EXPECT_LT(relative_difference(output(), before), 1e-5);
}

TEST_F(FoldTest, ChannelsThatWouldVanishOrOverflowKeepTheirScale) {
  const ScaleEdge& edge = block_.edges.front();
  const at::Tensor before = output();
  BlockState s = state(DType::F16);
  for (const Linear* reader : block_.consumers(edge)) s.to_solve.insert(reader->name);
  at::Tensor scales = at::ones({width_of(edge)});
  scales[3] = 1e12;
  scales[5] = 1e-12;
  const at::Tensor effective = apply_fold(s, edge, scales);
  EXPECT_EQ(effective[3].item<float>(), 1.0f);
  EXPECT_EQ(effective[5].item<float>(), 1.0f);
  EXPECT_LT(relative_difference(output(), before), 1e-5);
}

TEST_F(FoldTest, SolvedProducersKeepTheirCodes) {
  for (const ScaleEdge& edge : block_.edges) {
    if (edge.producer_kind != ScaleEdge::Producer::linear) continue;
    BlockState s = state(DType::F32);
    s.solved[edge.producer] = quantize(edge.producer);
    const at::Tensor codes = s.solved[edge.producer].codes.clone();
    const at::Tensor before = output();
    apply_fold(s, edge, scales_for(edge, width_of(edge)));
    EXPECT_TRUE(at::equal(codes, s.solved[edge.producer].codes));
    EXPECT_LT(relative_difference(output(), before), 1e-3)
        << "only the F16 rounding of the row scales may show";
  }
}

}  // namespace
}  // namespace lathe
