// FLOPs of a forward pass, counted by hand.
#include "lib/model/forward_work.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace lathe {
namespace {

/// Four query heads of 16 channels that share two KV heads.
ModelGraph graph_of(nlohmann::json more) {
  nlohmann::json config = {{"model_type", "llama"},    {"hidden_size", 64},
                           {"intermediate_size", 96},  {"num_hidden_layers", 2},
                           {"num_attention_heads", 4}, {"num_key_value_heads", 2},
                           {"vocab_size", 50},         {"max_position_embeddings", 64},
                           {"torch_dtype", "float32"}};
  config.update(more);
  return build_graph(parse_model_config(config, "config.json"));
}

TEST(ForwardWork, OfADenseBlock) {
  const ModelGraph graph = graph_of(nlohmann::json::object());
  const ForwardWork work = block_work(graph.config, graph.blocks[0], 3, 10);
  // q and o 64 x 64, k and v 32 x 64, gate, up and down 64 x 96.
  EXPECT_EQ(work.products, 2.0 * 30 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 96));
  // Each of 10 tokens sees itself and those before: 55 pairs a row; q k^T and what it weighs, 64 channels
  // each.
  EXPECT_EQ(work.attention, 3.0 * 55 * (2 * 64 + 2 * 64));
  // Two norms and two sums of 64, rotation of 64 + 32, a gate of 96.
  EXPECT_EQ(work.values, 30.0 * (4 * 64 + 96 + 96));
  EXPECT_EQ(work.flops(), work.products + work.attention);
  EXPECT_EQ(slot_products(graph.blocks[0], Slot::attention_in, 30), 2.0 * 30 * (64 + 32 + 32) * 64);
  EXPECT_EQ(slot_products(graph.blocks[0], Slot::mlp_mid, 30), 2.0 * 30 * 64 * 96);
}

TEST(ForwardWork, PairsOfAWindow) {
  EXPECT_EQ(seen_pairs(10, std::nullopt), 55);
  EXPECT_EQ(seen_pairs(10, 10), 55);
  EXPECT_EQ(seen_pairs(10, 64), 55);
  EXPECT_EQ(seen_pairs(10, 4), 1 + 2 + 3 + 4 + 6 * 4);
  EXPECT_EQ(seen_pairs(10, 1), 10);
}

TEST(ForwardWork, OfExperts) {
  const ModelGraph graph = graph_of({{"model_type", "qwen2_moe"},
                                     {"moe_intermediate_size", 32},
                                     {"shared_expert_intermediate_size", 80},
                                     {"num_experts", 5},
                                     {"num_experts_per_tok", 2}});
  const Block& block = graph.blocks[0];
  ASSERT_TRUE(block.experts);
  const ForwardWork work = block_work(graph.config, block, 3, 10);
  const double attention = 2 * 64 * 64 + 2 * 32 * 64, router = 5 * 64, shared = 3 * 64 * 80 + 64;
  EXPECT_DOUBLE_EQ(work.products, 2.0 * 30 * (attention + router + shared + 2 * 3 * 64 * 32));
  EXPECT_DOUBLE_EQ(work.values, 30.0 * (4 * 64 + 96 + 80 + 2 * 32));
  EXPECT_EQ(tokens_of(block, *block.find(LinearRole::gate_proj, 3), 30), 12);
  EXPECT_EQ(tokens_of(block, *block.find(LinearRole::gate_proj), 30), 30);
}

}  // namespace
}  // namespace lathe
