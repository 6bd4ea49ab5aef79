// The promise of ScaleEdge: moving channel scales along an edge leaves the block's function as it was.
#include "tests/unit/model/test_model.h"

namespace lathe {
namespace {

using nlohmann::json;

const Linear& linear_named(const Block& block, const std::string& name) {
  for (const Linear& linear : block.linears) {
    if (linear.name == name) return linear;
  }
  internal_error("no linear {}", name);
}

int64_t producer_channels(const SmallModel& model, const ScaleEdge& edge) {
  return model.block().consumers(edge).front()->in / edge.repeat;
}

// Consumer column (g * repeat + r) * head_dim + c reads producer channel g * head_dim + c.
at::Tensor consumer_scales(const ScaleEdge& edge, const at::Tensor& scales) {
  if (edge.repeat == 1) return scales;
  return scales.view({-1, 1, edge.head_dim}).expand({-1, edge.repeat, edge.head_dim}).reshape({-1});
}

void divide_producer(SmallModel& model, const ScaleEdge& edge, const at::Tensor& scales) {
  if (edge.producer_kind == ScaleEdge::Producer::norm) {
    const Block& block = model.block();
    const Norm& norm = edge.producer == block.attention_norm.name ? block.attention_norm : block.mlp_norm;
    ASSERT_EQ(norm.name, edge.producer);
    const at::Tensor weight = model.weights.norm(norm);
    model.weights.set_norm(norm, norm.one_plus ? (1 + weight) / scales - 1 : weight / scales);
    return;
  }
  const Linear& linear = linear_named(model.block(), edge.producer);
  at::Tensor weight = model.weights.weight(linear).clone();
  weight.narrow(0, edge.first_row, scales.numel()).div_(scales.unsqueeze(1));
  model.weights.set_weight(linear, weight);
  if (linear.bias) model.weights.set_bias(linear, model.weights.bias(linear) / scales);
}

void multiply_consumers(SmallModel& model, const ScaleEdge& edge, const at::Tensor& scales) {
  for (const Linear* linear : model.block().consumers(edge)) {
    model.weights.set_weight(*linear, model.weights.weight(*linear) * consumer_scales(edge, scales));
  }
}

at::Tensor random_scales(int64_t count) { return at::exp(0.7 * at::randn({count}, at::kFloat)); }

std::vector<json> variants() {
  return {small_config(),
          with(small_config(), {{"num_key_value_heads", 4}}),
          with(small_config(), {{"num_key_value_heads", 1}, {"attention_bias", true}, {"mlp_bias", true}}),
          with(small_config("mistral"), {{"sliding_window", 3}}),
          with(small_config("phi3"), {{"num_key_value_heads", 4}}),
          with(family_config("qwen2_moe"), {{"qkv_bias", false}})};
}

void expect_every_edge_preserves(const json& config) {
  const size_t edges = SmallModel(config).block().edges.size();
  for (size_t e = 0; e < edges; ++e) {
    SmallModel model(config);
    const ScaleEdge edge = model.block().edges[e];
    if (!edge.closed.empty()) continue;
    const at::Tensor hidden = random_hidden(2, 9), before = model.run(hidden);
    const at::Tensor scales = random_scales(producer_channels(model, edge));
    divide_producer(model, edge, scales);
    EXPECT_GT(relative_difference(model.run(hidden), before), 1e-3)
        << "half a fold must change the function: " << edge.producer << " of " << config.dump();
    multiply_consumers(model, edge, scales);
    EXPECT_LT(relative_difference(model.run(hidden), before), 4e-6)
        << edge.producer << " of " << config.dump();
  }
}

TEST(ScaleEdges, FoldingPreservesTheFunction) {
  for (const json& config : variants()) expect_every_edge_preserves(config);
}

TEST(ScaleEdges, OfEveryFamily) {
  for (const std::string& family : all_families()) {
    const json config = family_config(family);
    const Block& block = SmallModel(config).block();
    // norm, v, norm, and one up -> down for each MLP
    const size_t mlps = block.experts ? block.experts->count + (family == "qwen2_moe" ? 1 : 0) : 1;
    EXPECT_EQ(block.edges.size(), 3 + mlps) << family;
    expect_every_edge_preserves(config);
  }
}

TEST(ScaleEdges, AClipOnValuesClosesTheEdgeThroughAttentionAndSaysWhy) {
  const json config = with(family_config("olmoe"), {{"clip_qkv", 0.5}});
  const SmallModel model(config);
  for (const ScaleEdge& edge : model.block().edges) {
    const bool through = edge.input.slot == Slot::attention_out;
    EXPECT_EQ(edge.closed.find("clip_qkv") != std::string::npos, through) << edge.producer;
  }
  expect_every_edge_preserves(config);
}

}  // namespace
}  // namespace lathe
