#include "lib/model/weights_graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/base/error.h"

namespace lathe {
namespace {

using testing::ElementsAre;

using Tensors = std::map<std::string, TensorInfo>;

std::vector<std::string> names_of(const ModelGraph& graph) {
  std::vector<std::string> names;
  for (const Block& block : graph.blocks) {
    EXPECT_EQ(block.linears.size(), 1u);
    EXPECT_EQ(block.linears.front().name, block.prefix);
    names.push_back(block.prefix);
  }
  return names;
}

TEST(WeightsGraph, HoldsTheMatricesThatAreNoEmbeddingNormOrHead) {
  const TensorInfo matrix{DType::BF16, {8, 16}};
  const Tensors tensors = {{"transformer.wte.weight", matrix},
                           {"model.embed_tokens.weight", matrix},
                           {"backbone.embeddings.weight", matrix},
                           {"lm_head.weight", matrix},
                           {"embed_out.weight", matrix},
                           {"output.weight", matrix},
                           {"layers.0.norm.weight", matrix},
                           {"layers.0.ln_1.weight", matrix},
                           {"layers.0.output.dense.weight", matrix},
                           {"layers.0.in_proj.weight", matrix},
                           {"layers.0.in_proj.bias", {DType::BF16, {8}}},
                           {"layers.0.conv.weight", {DType::BF16, {8, 1, 4}}},
                           {"layers.0.A_log", matrix},
                           {"layers.0.packed.weight", {DType::I32, {8, 16}}},
                           {"layers.0.vector.weight", {DType::BF16, {8}}}};
  const WeightsGraph found = weights_graph("zebra", tensors, "folder");
  EXPECT_THAT(names_of(found.graph), ElementsAre("layers.0.in_proj", "layers.0.output.dense"));
  const Linear& linear = found.graph.blocks[0].linears.front();
  EXPECT_EQ(linear.out, 8);
  EXPECT_EQ(linear.in, 16);
  EXPECT_TRUE(linear.bias);
  EXPECT_EQ(found.graph.config.dtype, DType::BF16);
  EXPECT_EQ(found.graph.config.model_type, "zebra");
  ASSERT_EQ(found.other_shapes.size(), 1u);
  EXPECT_EQ(found.other_shapes[0].first, "layers.0.conv.weight");
}

TEST(WeightsGraph, KnowsRolesByTheLastNameAndCountsNumbers) {
  const TensorInfo matrix{DType::F16, {8, 16}};
  const Tensors tensors = {{"l.10.q_proj.weight", matrix},
                           {"l.2.mixer.weight", matrix},
                           {"l.2.moe.gate.weight", matrix},
                           {"l.2.moe.experts.11.down_proj.weight", matrix},
                           {"l.2.moe.experts.9.down_proj.weight", matrix}};
  const ModelGraph graph = weights_graph("zebra", tensors, "folder").graph;
  EXPECT_THAT(names_of(graph), ElementsAre("l.2.mixer", "l.2.moe.experts.9.down_proj",
                                           "l.2.moe.experts.11.down_proj", "l.2.moe.gate", "l.10.q_proj"));
  const auto role = [&](size_t i) { return graph.blocks[i].linears.front().role; };
  EXPECT_EQ(role(0), LinearRole::other);
  EXPECT_EQ(role(1), LinearRole::down_proj);
  EXPECT_EQ(role(3), LinearRole::router);
  EXPECT_EQ(role(4), LinearRole::q_proj);
  EXPECT_TRUE(word_matches(graph.blocks[0].linears.front(), "linear"));
  EXPECT_FALSE(word_matches(graph.blocks[3].linears.front(), "linear"));
}

TEST(WeightsGraph, AModuleInsideAnotherIsNoLinearOfItsOwn) {
  const TensorInfo matrix{DType::F16, {8, 16}};
  const Tensors tensors = {{"l.q.weight", matrix}, {"l.q.lora_A.weight", matrix}, {"l.qq.weight", matrix}};
  EXPECT_THAT(names_of(weights_graph("zebra", tensors, "folder").graph), ElementsAre("l.q", "l.qq"));
}

TEST(WeightsGraph, RefusesAFolderWithoutMatrices) {
  EXPECT_THROW(weights_graph("zebra", {{"a.weight", {DType::F16, {4}}}}, "folder"), UserError);
  EXPECT_TRUE(is_known_family("llama"));
  EXPECT_FALSE(is_known_family("mamba2"));
}

}  // namespace
}  // namespace lathe
