// Names, rows and keys of the families; what llama.cpp can't compute is refused.
#include "formats/gguf/tensor_map.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "formats/gguf/model_keys.h"
#include "tests/unit/formats/gguf/small_config.h"

namespace lathe {
namespace {

using nlohmann::json;
using testing::HasSubstr;

json config_of(const std::string& family) {
  json config = test::small_config(family, 64, 96, 4);
  const bool shared = family == "qwen2_moe", experts = family.ends_with("_moe");
  if (family == "mixtral") config["num_local_experts"] = 4;
  if (family == "olmoe") config["num_key_value_heads"] = 4;
  if (family == "olmoe" || experts) config["num_experts"] = 4;
  if (family == "olmoe" || family == "mixtral" || experts) config["num_experts_per_tok"] = 2;
  if (experts) config["moe_intermediate_size"] = 64;
  if (shared) config["shared_expert_intermediate_size"] = 32;
  config["norm_topk_prob"] = family == "qwen3_moe";
  return config;
}

ModelGraph graph_of(const json& config) { return build_graph(parse_model_config(config, "config.json")); }

std::map<std::string, GgufTensorRule> by_name(const ModelGraph& graph) {
  std::map<std::string, GgufTensorRule> rules;
  for (const GgufTensorRule& rule : gguf_tensors(graph)) {
    if (rule.expert > 0) continue;  // the first stands for its stack
    EXPECT_FALSE(rules.contains(rule.gguf)) << rule.gguf << " stands twice";
    rules[rule.gguf] = rule;
  }
  return rules;
}

class GgufFamily : public testing::TestWithParam<std::string> {};

TEST_P(GgufFamily, EveryTensorOfTheGraphHasAPlaceOfItsShape) {
  const ModelGraph graph = graph_of(config_of(GetParam()));
  EXPECT_EQ(gguf_refuses(graph), std::nullopt);
  auto expected = graph.expected_tensors();
  for (const GgufTensorRule& rule : gguf_tensors(graph)) {
    const std::string& name = rule.gguf;
    ASSERT_TRUE(expected.contains(rule.hf)) << rule.hf;
    EXPECT_EQ(expected.at(rule.hf), rule.shape) << name;
    EXPECT_EQ(rule.heads > 0, (GetParam() == "llama" || GetParam() == "mistral" || GetParam() == "mixtral") &&
                                  (name.find("attn_q.") != name.npos || name.find("attn_k.") != name.npos))
        << name;
    EXPECT_EQ(rule.plus_one, GetParam().starts_with("gemma") && name.ends_with("norm.weight")) << name;
    expected.erase(rule.hf);
  }
  for (const auto& [name, shape] : expected) ADD_FAILURE() << name << " has no place";
}

INSTANTIATE_TEST_SUITE_P(All, GgufFamily,
                         testing::Values("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text",
                                         "phi3", "mixtral", "qwen2_moe", "qwen3_moe", "olmoe"));

TEST(GgufTensorMap, ExpertsAreStacked) {
  const ModelGraph graph = graph_of(config_of("qwen2_moe"));
  std::vector<GgufTensorRule> down;
  for (const GgufTensorRule& rule : gguf_tensors(graph)) {
    if (rule.gguf == "blk.1.ffn_down_exps.weight") down.push_back(rule);
  }
  ASSERT_EQ(down.size(), 4u);
  for (int64_t i = 0; i < 4; ++i) {
    const GgufTensorRule& rule = down[static_cast<size_t>(i)];
    EXPECT_EQ(rule.hf, "model.layers.1.mlp.experts." + std::to_string(i) + ".down_proj.weight");
    EXPECT_EQ(rule.file_shape(), (std::vector<int64_t>{4, 32, 64}));
    EXPECT_EQ(rule.first_row(), 32 * i);
  }
  const auto rules = by_name(graph);
  EXPECT_EQ(rules.at("blk.0.ffn_gate_inp_shexp.weight").file_shape(), (std::vector<int64_t>{32}));
  EXPECT_TRUE(rules.at("blk.0.ffn_gate_inp.weight").plain);
  EXPECT_EQ(rules.at("blk.0.ffn_up_shexp.weight").hf, "model.layers.0.mlp.shared_expert.up_proj.weight");
  EXPECT_EQ(by_name(graph_of(config_of("mixtral"))).at("blk.0.ffn_up_exps.weight").hf,
            "model.layers.0.block_sparse_moe.experts.0.w3.weight");
  EXPECT_EQ(by_name(graph_of(config_of("phi3"))).at("blk.0.ffn_up.weight").hf,
            "model.layers.0.mlp.gate_up_proj.weight");
}

TEST(GgufModelKeys, Experts) {
  const auto keys_of = [](const std::string& family) {
    std::map<std::string, GgufValue> keys;
    for (const auto& [key, value] : model_keys(graph_of(config_of(family)), "m", *find_mix("F16"), 1))
      keys[key] = value;
    return keys;
  };
  const auto qwen = keys_of("qwen2_moe");
  EXPECT_TRUE(qwen.at("qwen2moe.expert_count") == GgufValue(uint32_t{4}));
  EXPECT_TRUE(qwen.at("qwen2moe.expert_used_count") == GgufValue(uint32_t{2}));
  EXPECT_TRUE(qwen.at("qwen2moe.expert_feed_forward_length") == GgufValue(uint32_t{64}));
  EXPECT_TRUE(qwen.at("qwen2moe.expert_shared_feed_forward_length") == GgufValue(uint32_t{32}));
  EXPECT_TRUE(keys_of("mixtral").at("llama.expert_count") == GgufValue(uint32_t{4}));
  EXPECT_FALSE(keys_of("llama").contains("llama.expert_count"));
}

TEST(GgufTensorMap, Names) {
  const auto llama = by_name(graph_of(config_of("llama")));
  EXPECT_EQ(llama.at("output.weight").hf, "lm_head.weight");
  EXPECT_EQ(llama.at("token_embd.weight").hf, "model.embed_tokens.weight");
  EXPECT_EQ(llama.at("blk.3.ffn_norm.weight").hf, "model.layers.3.post_attention_layernorm.weight");
  EXPECT_EQ(llama.at("blk.2.attn_output.weight").hf, "model.layers.2.self_attn.o_proj.weight");
  EXPECT_EQ(llama.at("blk.2.attn_k.weight").heads, 2);
  const auto gemma = by_name(graph_of(config_of("gemma3_text")));
  EXPECT_FALSE(gemma.contains("output.weight")) << "tied";
  EXPECT_EQ(gemma.at("blk.0.post_attention_norm.weight").hf,
            "model.layers.0.post_attention_layernorm.weight");
  EXPECT_EQ(gemma.at("blk.0.ffn_norm.weight").hf, "model.layers.0.pre_feedforward_layernorm.weight");
  EXPECT_EQ(gemma.at("blk.0.post_ffw_norm.weight").hf, "model.layers.0.post_feedforward_layernorm.weight");
  EXPECT_EQ(gemma.at("blk.1.attn_q_norm.weight").hf, "model.layers.1.self_attn.q_norm.weight");
  EXPECT_TRUE(by_name(graph_of(config_of("qwen2"))).contains("blk.0.attn_q.bias"));
}

TEST(GgufTensorMap, RowsOfAHeadAreInterleaved) {
  // Two heads of six rows: the halves' k-th rows become neighbours.
  const at::Tensor rows = interleaved_rows(12, 2);
  EXPECT_TRUE(rows.equal(at::tensor({0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11}, at::kLong))) << rows;
  for (const auto& [count, heads] : {std::pair<int64_t, int64_t>{12, 2}, {64, 4}, {6, 3}, {256, 1}}) {
    const at::Tensor there = interleaved_rows(count, heads), back = halved_rows(count, heads);
    EXPECT_TRUE(there.index_select(0, back).equal(at::arange(count))) << count;
  }
}

TEST(GgufTensorMap, RopeDivisorsOfLlama3) {
  RopeConfig rope;
  rope.type = RopeConfig::Type::llama3;
  rope.theta = 500000;
  rope.factor = 8;
  rope.rotary_dim = 128;
  rope.original_max_position = 8192;
  const at::Tensor divisors = rope_divisors(rope, "rope_freqs.weight");
  ASSERT_EQ(divisors.numel(), 64);
  // Values of llama.cpp's converter for Llama 3.1 8B.
  const std::vector<std::pair<int64_t, float>> known = {{0, 1.0f},
                                                        {28, 1.0f},
                                                        {29, 1.2074838876724243f},
                                                        {30, 1.5534145832061768f},
                                                        {31, 2.026313066482544f},
                                                        {34, 5.257327079772949f},
                                                        {35, 8.0f},
                                                        {63, 8.0f}};
  for (const auto& [i, value] : known) EXPECT_NEAR(divisors[i].item<float>(), value, 2e-6f * value) << i;
}

TEST(GgufTensorMap, RefusesWhatLlamaCppHasNoKeyFor) {
  const auto problem = [](const std::string& family, const json& changes) {
    json config = config_of(family);
    config.update(changes);
    return gguf_refuses(graph_of(config)).value_or("");
  };
  EXPECT_EQ(problem("mixtral", json::object()), "");
  EXPECT_THAT(problem("qwen2_moe", {{"norm_topk_prob", true}}), HasSubstr("does not divide"));
  EXPECT_THAT(problem("qwen3_moe", {{"norm_topk_prob", false}}), HasSubstr("qwen3moe divides"));
  EXPECT_THAT(problem("qwen3_moe", {{"mlp_only_layers", {2}}}), HasSubstr("layer 2 has no experts"));
  EXPECT_THAT(problem("olmoe", {{"clip_qkv", 8.0}}), HasSubstr("clip_qkv 8"));
  EXPECT_THAT(problem("olmoe", {{"num_key_value_heads", 2}}), HasSubstr("the norm of k has 16 channels"));
  EXPECT_THAT(problem("qwen2", {{"head_dim", 16}}), HasSubstr("4 heads of 16 channels"));
  EXPECT_THAT(problem("llama", {{"hidden_act", "gelu"}}), HasSubstr("activation gelu"));
  EXPECT_THAT(problem("qwen3", {{"attention_bias", true}}), HasSubstr("has a bias"));
  EXPECT_EQ(problem("llama", {{"attention_bias", true}, {"mlp_bias", true}}), "");
  EXPECT_THAT(problem("gemma2", {{"query_pre_attn_scalar", 24}}), HasSubstr("query_pre_attn_scalar"));
  EXPECT_THAT(problem("gemma3_text", {{"sliding_window_pattern", 3}}), HasSubstr("sliding window"));
  EXPECT_THAT(problem("llama", {{"rope_scaling", {{"rope_type", "dynamic"}, {"factor", 2.0}}}}),
              HasSubstr("dynamic rope scaling"));
  EXPECT_THAT(problem("gemma2", {{"tie_word_embeddings", false}}), HasSubstr("a head of its own"));
  json window = config_of("mistral");
  window["sliding_window"] = 64;
  EXPECT_THAT(gguf_warnings(graph_of(window)), testing::ElementsAre(HasSubstr("beyond 64 tokens")));
}

TEST(GgufModelKeys, SizeLabels) {
  // gguf-py 0.19: size_label().
  EXPECT_EQ(size_label(5'770'000), "5.8M");
  EXPECT_EQ(size_label(134'515'008), "135M");
  EXPECT_EQ(size_label(8'030'261'248), "8.0B");
  EXPECT_EQ(size_label(70'553'706'496), "71B");
  EXPECT_EQ(size_label(900), "0.9K");
}

}  // namespace
}  // namespace lathe
