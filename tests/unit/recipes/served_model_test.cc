#include "recipes/served_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace lathe {
namespace {

ModelGraph graph_of(const nlohmann::json& more) {
  nlohmann::json config = {{"model_type", "llama"},    {"hidden_size", 64},
                           {"intermediate_size", 96},  {"num_hidden_layers", 3},
                           {"num_attention_heads", 4}, {"num_key_value_heads", 2},
                           {"vocab_size", 50},         {"max_position_embeddings", 64},
                           {"torch_dtype", "float16"}};
  config.update(more);
  return build_graph(parse_model_config(config, "config.json"));
}

ServedModel served(const ModelGraph& graph) {
  std::map<std::string, TensorInfo> tensors;
  for (const auto& [name, shape] : graph.expected_tensors()) tensors[name] = {DType::F16, shape};
  return served_model(graph, tensors);
}

TEST(ServedModel, IsWhatTheGraphSays) {
  const ServedModel model = served(graph_of(nlohmann::json::object()));
  EXPECT_EQ(model.family, "llama");
  EXPECT_EQ(model.linears.size(), 21u);
  const int64_t linears = 3 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 96);
  EXPECT_EQ(model.floating, 2 * 50 * 64 + (2 * 3 + 1) * 64) << "embeddings, head, norms";
  EXPECT_EQ(model.parameters, linears + model.floating);
  EXPECT_EQ(kv_cache_bytes(model, 100, 2, 16), 2u * 3 * 32 * 100 * 2 * 2);
  EXPECT_EQ(kv_cache_bytes(model, 100, 2, 4.5), 2u * 3 * 32 * 100 * 2 * 9 / 16);
  EXPECT_EQ(model.attention, 64);
}

TEST(ServedModel, SlidingLayersKeepTheirWindow) {
  const ServedModel model = served(graph_of({{"model_type", "mistral"}, {"sliding_window", 16}}));
  ASSERT_EQ(model.cache.size(), 3u);
  for (const auto& layer : model.cache) EXPECT_EQ(layer.window, 16);
}

TEST(ServedModel, OfAMixtureKnowsItsExpertsAndWhatGpusCut) {
  const ServedModel model = served(graph_of({{"model_type", "qwen3_moe"},
                                             {"moe_intermediate_size", 24},
                                             {"num_experts", 8},
                                             {"num_experts_per_tok", 2},
                                             {"norm_topk_prob", true},
                                             {"decoder_sparse_step", 1},
                                             {"mlp_only_layers", nlohmann::json::array()}}));
  EXPECT_EQ(model.experts, 8);
  EXPECT_EQ(model.experts_per_token, 2);
  EXPECT_EQ(model.intermediate, 2 * 24) << "of a token, not of config.json's dense MLP";
  const auto count = [&](const auto& of) { return std::ranges::count_if(model.linears, of); };
  EXPECT_EQ(count([](const auto& linear) { return linear.expert; }), 3 * 8 * 3);
  EXPECT_EQ(count([](const auto& linear) { return linear.cut_input; }), 3 * (8 + 1));
  EXPECT_EQ(count([](const auto& linear) { return linear.kv_rows > 0; }), 3 * 2);
}

// As vLLM derives its longest context.
TEST(ServedModel, RotaryScalingReachesFurther) {
  const auto positions = [](const nlohmann::json& more) { return served(graph_of(more)).positions; };
  EXPECT_EQ(positions({{"max_position_embeddings", 4096}}), 4096);
  const auto scaled = [&](const nlohmann::json& scaling) {
    return positions({{"max_position_embeddings", 4096}, {"rope_scaling", scaling}});
  };
  EXPECT_EQ(scaled({{"rope_type", "linear"}, {"factor", 4.0}}), 4 * 4096);
  EXPECT_EQ(scaled({{"rope_type", "dynamic"}, {"factor", 2.0}}), 2 * 4096);
  EXPECT_EQ(scaled({{"rope_type", "yarn"}, {"factor", 8.0}, {"original_max_position_embeddings", 1024}}),
            8 * 1024);
  EXPECT_EQ(scaled({{"rope_type", "llama3"},
                    {"factor", 8.0},
                    {"low_freq_factor", 1.0},
                    {"high_freq_factor", 4.0},
                    {"original_max_position_embeddings", 512}}),
            4096);
}

TEST(ServedModel, TheLeastMemoryIsTheLeastThatFits) {
  const ServedModel model = served(graph_of(nlohmann::json::object()));
  const uint64_t weights = 123'457,
                 beside = kv_cache_bytes(model, 512, 4, 16) + activation_bytes(model, 512, 4);
  const uint64_t least = least_memory(model, weights, 512, 4, 16);
  EXPECT_GE(room_for_weights(model, least, 512, 4, 16), static_cast<int64_t>(weights));
  EXPECT_LT(room_for_weights(model, least - 1, 512, 4, 16), static_cast<int64_t>(weights));
  EXPECT_NEAR(static_cast<double>(least), static_cast<double>(weights + beside) / kServerShare, 3);
  EXPECT_LT(room_for_weights(model, beside / 2, 512, 4, 16), 0);
  EXPECT_EQ(
      room_for_weights(model, 1'000'000'000, 512, 4, 8) - room_for_weights(model, 1'000'000'000, 512, 4, 16),
      static_cast<int64_t>(kv_cache_bytes(model, 512, 4, 8)));
}

}  // namespace
}  // namespace lathe
