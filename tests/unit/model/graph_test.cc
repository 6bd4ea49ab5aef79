#include "lib/model/graph.h"

#include <gmock/gmock.h>

#include "tests/unit/model/test_model.h"

namespace lathe {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(ModelGraph, LinearsInTheOrderOfTheForwardPass) {
  const ModelGraph graph = graph_of(small_config());
  ASSERT_EQ(graph.blocks.size(), 2u);
  const Block& block = graph.blocks[1];
  EXPECT_EQ(block.index, 1);
  EXPECT_EQ(block.prefix, "model.layers.1");
  struct Row {
    const char* name;
    LinearRole role;
    Slot slot;
    int64_t out, in;
  };
  const Row rows[] = {
      {"model.layers.1.self_attn.q_proj", LinearRole::q_proj, Slot::attention_in, 32, 32},
      {"model.layers.1.self_attn.k_proj", LinearRole::k_proj, Slot::attention_in, 16, 32},
      {"model.layers.1.self_attn.v_proj", LinearRole::v_proj, Slot::attention_in, 16, 32},
      {"model.layers.1.self_attn.o_proj", LinearRole::o_proj, Slot::attention_out, 32, 32},
      {"model.layers.1.mlp.gate_proj", LinearRole::gate_proj, Slot::mlp_in, 48, 32},
      {"model.layers.1.mlp.up_proj", LinearRole::up_proj, Slot::mlp_in, 48, 32},
      {"model.layers.1.mlp.down_proj", LinearRole::down_proj, Slot::mlp_mid, 32, 48},
  };
  ASSERT_EQ(block.linears.size(), std::size(rows));
  for (size_t i = 0; i < std::size(rows); ++i) {
    EXPECT_EQ(block.linears[i].name, rows[i].name);
    EXPECT_EQ(block.linears[i].role, rows[i].role);
    EXPECT_EQ(block.linears[i].input, (Input{rows[i].slot, std::nullopt}));
    EXPECT_EQ(block.linears[i].out, rows[i].out);
    EXPECT_EQ(block.linears[i].in, rows[i].in);
    EXPECT_FALSE(block.linears[i].bias);
  }
  EXPECT_EQ(block.attention_norm.name, "model.layers.1.input_layernorm");
  EXPECT_EQ(block.mlp_norm.name, "model.layers.1.post_attention_layernorm");
  EXPECT_EQ(block.q_norm.name, "");
  EXPECT_THAT(block.reading(Slot::mlp_in), ElementsAre(&block.linears[4], &block.linears[5]));
  EXPECT_EQ(graph.embedding, "model.embed_tokens");
  EXPECT_EQ(graph.final_norm().name, "model.norm");
  EXPECT_EQ(graph.lm_head().out, 40);
}

std::vector<bool> biases(const nlohmann::json& config) {
  std::vector<bool> flags;
  for (const Linear& linear : graph_of(config).blocks[0].linears) flags.push_back(linear.bias);
  return flags;
}

TEST(ModelGraph, BiasesByFamily) {
  const std::vector<bool> none(7, false), qkv = {1, 1, 1, 0, 0, 0, 0}, attention = {1, 1, 1, 1, 0, 0, 0},
                                          all(7, true);
  const nlohmann::json on = {{"attention_bias", true}, {"mlp_bias", true}};
  EXPECT_EQ(biases(small_config("llama")), none);
  EXPECT_EQ(biases(with(small_config("llama"), on)), all);
  EXPECT_EQ(biases(with(small_config("mistral"), on)), none);
  EXPECT_EQ(biases(small_config("qwen2")), qkv);
  EXPECT_EQ(biases(with(small_config("qwen2"), on)), qkv);
  EXPECT_EQ(biases(small_config("qwen3")), none);
  EXPECT_EQ(biases(with(small_config("qwen3"), on)), attention);
}

TEST(ModelGraph, HeadNormsOfQwen3) {
  const ModelGraph graph = graph_of(small_config("qwen3"));
  EXPECT_EQ(graph.blocks[0].q_norm.name, "model.layers.0.self_attn.q_norm");
  EXPECT_EQ(graph.blocks[0].k_norm.width, 8);
  EXPECT_EQ(graph.expected_tensors().at("model.layers.0.self_attn.k_norm.weight"), std::vector<int64_t>{8});
}

TEST(ModelGraph, WindowsPerLayer) {
  const ModelGraph mistral = graph_of(with(small_config("mistral"), {{"sliding_window", 5}}));
  EXPECT_EQ(mistral.blocks[0].sliding_window, 5);
  EXPECT_EQ(mistral.blocks[1].sliding_window, 5);
  const ModelGraph qwen =
      graph_of(with(small_config("qwen2"),
                    {{"use_sliding_window", true}, {"sliding_window", 6}, {"max_window_layers", 1}}));
  EXPECT_EQ(qwen.blocks[0].sliding_window, std::nullopt);
  EXPECT_EQ(qwen.blocks[1].sliding_window, 6);
}

TEST(ModelGraph, Edges) {
  const ModelGraph graph = graph_of(small_config());
  const Block& block = graph.blocks[0];
  ASSERT_EQ(block.edges.size(), 4u);
  using Producer = ScaleEdge::Producer;
  EXPECT_EQ(block.edges[0].producer, "model.layers.0.input_layernorm");
  EXPECT_EQ(block.edges[0].producer_kind, Producer::norm);
  EXPECT_EQ(block.edges[0].input.slot, Slot::attention_in);
  EXPECT_EQ(block.edges[1].producer, "model.layers.0.self_attn.v_proj");
  EXPECT_EQ(block.edges[1].producer_kind, Producer::linear);
  EXPECT_EQ(block.edges[1].input.slot, Slot::attention_out);
  EXPECT_EQ(block.edges[1].repeat, 2);
  EXPECT_EQ(block.edges[1].head_dim, 8);
  EXPECT_EQ(block.edges[2].producer, "model.layers.0.post_attention_layernorm");
  EXPECT_EQ(block.edges[3].producer, "model.layers.0.mlp.up_proj");
  EXPECT_EQ(block.edges[3].input.slot, Slot::mlp_mid);
  const ModelGraph mha = graph_of(with(small_config(), {{"num_key_value_heads", 4}}));
  EXPECT_EQ(mha.blocks[0].edges[1].repeat, 1);
  EXPECT_EQ(mha.blocks[0].edges[1].head_dim, 0);
}

TEST(ModelGraph, FusedProducersStartAtARow) {
  const ModelGraph graph = graph_of(family_config("phi3"));
  const auto& edges = graph.blocks[0].edges;
  ASSERT_EQ(edges.size(), 4u);
  EXPECT_EQ(edges[1].producer, "model.layers.0.self_attn.qkv_proj");
  EXPECT_EQ(edges[1].first_row, 32 + 16) << "v's rows, after q's and k's";
  EXPECT_EQ(edges[3].producer, "model.layers.0.mlp.gate_up_proj");
  EXPECT_EQ(edges[3].first_row, 48) << "up's rows, after gate's";
}

TEST(ModelGraph, ExpertsOfABlock) {
  const ModelGraph graph = graph_of(family_config("qwen2_moe"));
  const Block& block = graph.blocks[1];
  ASSERT_EQ(block.linears.size(), 4u + 1 + 1 + 3 + 4 * 3);
  EXPECT_EQ(block.find(LinearRole::router)->name, "model.layers.1.mlp.gate");
  EXPECT_EQ(block.find(LinearRole::router)->out, 4);
  EXPECT_EQ(block.find(LinearRole::down_proj)->name, "model.layers.1.mlp.shared_expert.down_proj");
  EXPECT_EQ(block.find(LinearRole::down_proj)->in, 40);
  const Linear& up = *block.find(LinearRole::up_proj, 3);
  EXPECT_EQ(up.name, "model.layers.1.mlp.experts.3.up_proj");
  EXPECT_EQ(up.input, (Input{Slot::mlp_in, 3}));
  EXPECT_EQ(name_of(up.input), "mlp_in of expert 3");
  EXPECT_EQ(up.stored->tensor, "model.layers.1.mlp.experts.gate_up_proj");
  EXPECT_EQ(up.stored->shape, (std::vector<int64_t>{4, 48, 32}));
  EXPECT_EQ(up.stored->first_row, 3 * 48 + 24);
  EXPECT_EQ(block.find(LinearRole::up_proj, 4), nullptr);
  EXPECT_THAT(block.reading({Slot::mlp_mid, 2}), ElementsAre(block.find(LinearRole::down_proj, 2)));
  EXPECT_EQ(block.consumers(block.edges[2]).size(), 1u + 1 + 2 + 4 * 2) << "all that read the norm's output";
}

TEST(ModelGraph, NormsByFamily) {
  const Block gemma = graph_of(family_config("gemma3_text")).blocks[0];
  EXPECT_EQ(gemma.mlp_norm.name, "model.layers.0.pre_feedforward_layernorm");
  EXPECT_EQ(gemma.attention_out_norm.name, "model.layers.0.post_attention_layernorm");
  EXPECT_EQ(gemma.mlp_out_norm.name, "model.layers.0.post_feedforward_layernorm");
  EXPECT_EQ(gemma.norms().size(), 6u);
  for (const Norm* norm : gemma.norms()) EXPECT_TRUE(norm->one_plus);
  EXPECT_TRUE(gemma.local_rope);
  EXPECT_FALSE(graph_of(family_config("gemma3_text")).blocks[1].local_rope);
  const Block olmoe = graph_of(family_config("olmoe")).blocks[0];
  EXPECT_EQ(olmoe.q_norm.width, 32);
  EXPECT_EQ(olmoe.k_norm.width, 16);
  EXPECT_FALSE(olmoe.q_norm.one_plus);
}

std::map<std::string, TensorInfo> tensors_of(const ModelGraph& graph, DType dtype = DType::F16) {
  std::map<std::string, TensorInfo> tensors;
  for (const auto& [name, shape] : graph.expected_tensors()) tensors[name] = {dtype, shape};
  return tensors;
}

TEST(ModelGraph, TheTextPartOfGemma3) {
  const ModelGraph graph = graph_of(family_config("gemma3"));
  EXPECT_EQ(graph.embedding, "model.language_model.embed_tokens");
  EXPECT_EQ(graph.final_norm().name, "model.language_model.norm");
  EXPECT_EQ(graph.lm_head().name, "lm_head");
  EXPECT_EQ(graph.blocks[1].find(LinearRole::q_proj)->name, "model.language_model.layers.1.self_attn.q_proj");
  EXPECT_THAT(graph.untouched, ElementsAre("re:.*vision_tower.*", "re:.*multi_modal_projector.*"));
  EXPECT_THAT(graph_of(family_config("gemma3_text")).untouched, testing::IsEmpty());
  auto tensors = tensors_of(graph);
  tensors["model.vision_tower.encoder.layers.7.self_attn.q_proj.weight"] = {DType::F32, {4, 4}};
  EXPECT_NO_THROW(check_tensors(graph, tensors, "m")) << "what is not of the graph is not its business";
  tensors["model.language_model.layers.2.input_layernorm.weight"] = {DType::F16, {32}};
  EXPECT_THAT(user_error_of([&] { check_tensors(graph, tensors, "m"); }), HasSubstr("num_hidden_layers 2"));
  tensors["model.language_model.layers.2.eh_proj.weight"] = {DType::F16, {32, 64}};
  EXPECT_NO_THROW(check_tensors(graph, tensors, "m"))
      << "a head that predicts further tokens is no lost block";
  tensors["model.language_model.layers.3.input_layernorm.weight"] = {DType::F16, {32}};
  EXPECT_THAT(user_error_of([&] { check_tensors(graph, tensors, "m"); }), HasSubstr("layers.3'"));
}

TEST(ModelGraph, RoleTargets) {
  const auto words_of = [](const Linear& linear) {
    std::vector<std::string> words;
    for (const std::string& word : role_targets()) {
      if (word_matches(linear, word)) words.push_back(word);
    }
    EXPECT_FALSE(word_matches(linear, ""));
    return words;
  };
  const ModelGraph graph = graph_of(family_config("qwen2_moe"));
  const Block& block = graph.blocks[0];
  EXPECT_THAT(words_of(*block.find(LinearRole::q_proj)), ElementsAre("linear", "attention", "q_proj"));
  EXPECT_THAT(words_of(*block.find(LinearRole::router)), ElementsAre("router"));
  EXPECT_THAT(words_of(*block.find(LinearRole::shared_expert_gate)), ElementsAre("shared_expert_gate"));
  EXPECT_THAT(words_of(*block.find(LinearRole::up_proj)),
              ElementsAre("linear", "mlp", "shared_expert", "up_proj"));
  EXPECT_THAT(words_of(*block.find(LinearRole::up_proj, 2)),
              ElementsAre("linear", "mlp", "expert", "up_proj"));
  EXPECT_THAT(words_of(graph.lm_head()), ElementsAre("linear", "lm_head"));
  const ModelGraph phi = graph_of(family_config("phi3"));
  EXPECT_THAT(words_of(*phi.blocks[0].find(LinearRole::qkv_proj)),
              ElementsAre("linear", "attention", "qkv_proj"));
  EXPECT_THAT(words_of(*phi.blocks[0].find(LinearRole::gate_up_proj)),
              ElementsAre("linear", "mlp", "gate_up_proj"));
  EXPECT_THAT(role_targets(), testing::IsSupersetOf({"linear", "attention", "mlp", "k_proj", "lm_head"}));
}

TEST(ModelGraph, ListsFamilies) {
  std::vector<std::string> names;
  for (const FamilyInfo& info : supported_families()) {
    names.push_back(info.model_type);
    EXPECT_NE(info.description, "");
  }
  EXPECT_THAT(names, ElementsAre("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "gemma3",
                                 "phi3", "mixtral", "qwen2_moe", "qwen3_moe", "olmoe"));
  ModelConfig config;
  config.model_type = "gpt2";
  EXPECT_THAT(user_error_of([&] { build_graph(config); }), AllOf(HasSubstr("'gpt2'"), HasSubstr("llama")));
}

TEST(CheckTensors, AcceptsWhatFits) {
  const ModelGraph graph = graph_of(small_config("qwen2"));
  auto tensors = tensors_of(graph);
  EXPECT_EQ(tensors.size(), 2u * (2 + 7 + 3) + 3);
  tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = {DType::F64, {4}};
  tensors["model.norm.weight"].dtype = DType::F32;
  tensors["model.layers.0.self_attn.q_proj.bias"].dtype = DType::BF16;
  EXPECT_NO_THROW(check_tensors(graph, tensors, "m"));
  const ModelGraph undeclared = graph_of(with(small_config("qwen2"), {{"torch_dtype", nullptr}}));
  EXPECT_NO_THROW(check_tensors(undeclared, tensors_of(undeclared, DType::BF16), "m"));
}

TEST(CheckTensors, TiedHeadNeedsNoTensor) {
  const ModelGraph graph = graph_of(with(small_config(), {{"tie_word_embeddings", true}}));
  EXPECT_FALSE(graph.expected_tensors().contains("lm_head.weight"));
  auto tensors = tensors_of(graph);
  EXPECT_NO_THROW(check_tensors(graph, tensors, "m"));
  const ModelGraph untied = graph_of(small_config());
  EXPECT_THAT(user_error_of([&] { check_tensors(untied, tensors, "m"); }),
              AllOf(HasSubstr("'lm_head.weight'"), HasSubstr("tie_word_embeddings")));
}

std::string refusal(const nlohmann::json& config, const std::string& name, std::optional<TensorInfo> info) {
  const ModelGraph graph = graph_of(config);
  auto tensors = tensors_of(graph);
  tensors.erase(name);
  if (info) tensors[name] = *info;
  const std::string message = user_error_of([&] { check_tensors(graph, tensors, "some/folder"); });
  EXPECT_THAT(message, AllOf(testing::StartsWith("some/folder: "), HasSubstr("'" + name + "'"),
                             testing::Not(HasSubstr("\n"))));
  return message;
}

TEST(CheckTensors, NamesTheTensorAndTheContradiction) {
  const std::string up = "model.layers.1.mlp.up_proj.weight";
  EXPECT_THAT(refusal(small_config(), up, std::nullopt), AllOf(HasSubstr("[48, 32]"), HasSubstr("missing")));
  EXPECT_THAT(refusal(small_config(), up, TensorInfo{DType::F16, {32, 48}}),
              AllOf(HasSubstr("[48, 32]"), HasSubstr("F16 [32, 48]")));
  EXPECT_THAT(refusal(small_config(), up, TensorInfo{DType::F64, {48, 32}}), HasSubstr("found F64"));
  EXPECT_THAT(refusal(small_config(), up, TensorInfo{DType::F8_E4M3, {48, 32}}), HasSubstr("found F8_E4M3"));
  EXPECT_THAT(refusal(small_config(), up, TensorInfo{DType::I32, {48, 32}}), HasSubstr("found I32"));
  EXPECT_THAT(refusal(small_config(), up, TensorInfo{DType::BF16, {48, 32}}),
              AllOf(HasSubstr("declares F16"), HasSubstr("found BF16")));
  EXPECT_THAT(refusal(small_config(), "model.norm.weight", TensorInfo{DType::F64, {32}}),
              HasSubstr("found F64"));
  EXPECT_THAT(refusal(small_config("qwen2"), "model.layers.0.self_attn.v_proj.bias", std::nullopt),
              HasSubstr("missing"));
  EXPECT_THAT(
      refusal(small_config("mistral"), "model.layers.0.self_attn.v_proj.bias", TensorInfo{DType::F16, {16}}),
      AllOf(HasSubstr("no bias"), HasSubstr("mistral")));
}

}  // namespace
}  // namespace lathe
