#include "lib/model/config.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/unit/model/test_model.h"

namespace lathe {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

ModelConfig parse(const json& config) { return parse_model_config(config, "m/config.json"); }

TEST(ModelConfig, ReadsSizesAndFlags) {
  const ModelConfig config = parse(with(small_config(), {{"tie_word_embeddings", true},
                                                         {"mlp_bias", true},
                                                         {"architectures", {"LlamaForCausalLM"}},
                                                         {"hidden_act", "gelu"}}));
  EXPECT_EQ(config.model_type, "llama");
  EXPECT_EQ(config.architectures, std::vector<std::string>{"LlamaForCausalLM"});
  EXPECT_EQ(config.vocab_size, 40);
  EXPECT_EQ(config.hidden_size, 32);
  EXPECT_EQ(config.intermediate_size, 48);
  EXPECT_EQ(config.num_layers, 2);
  EXPECT_EQ(config.num_heads, 4);
  EXPECT_EQ(config.num_kv_heads, 2);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.max_position, 64);
  EXPECT_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_EQ(config.activation, "gelu");
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_TRUE(config.mlp_bias);
  EXPECT_FALSE(config.attention_bias);
  EXPECT_FALSE(config.sliding_window);
}

TEST(ModelConfig, DefaultsOfAbsentAndNullKeys) {
  const ModelConfig config = parse(with(small_config(), {{"num_key_value_heads", nullptr},
                                                         {"head_dim", nullptr},
                                                         {"rms_norm_eps", nullptr},
                                                         {"rope_theta", nullptr},
                                                         {"torch_dtype", nullptr}}));
  EXPECT_EQ(config.num_kv_heads, 4);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_EQ(config.rope.theta, 10000.0);
  EXPECT_FALSE(config.dtype_declared);
  json qwen3 = small_config("qwen3");
  qwen3.erase("head_dim");
  EXPECT_EQ(parse(qwen3).head_dim, 128) << "transformers' default for this family";
}

TEST(ModelConfig, DtypeInBothSpellings) {
  EXPECT_EQ(parse(small_config()).dtype, DType::F16);
  EXPECT_TRUE(parse(small_config()).dtype_declared);
  EXPECT_EQ(parse(with(small_config(), {{"torch_dtype", "bfloat16"}})).dtype, DType::BF16);
  EXPECT_EQ(parse(with(small_config(), {{"torch_dtype", "torch.float32"}})).dtype, DType::F32);
  EXPECT_EQ(parse(with(small_config(), {{"dtype", "bfloat16"}})).dtype, DType::BF16) << "dtype goes first";
}

TEST(ModelConfig, RopeInTheSpellingsOfTransformers4) {
  using Type = RopeConfig::Type;
  EXPECT_EQ(parse(small_config()).rope.type, Type::default_);
  const json linear =
      with(small_config(), {{"rope_theta", 5e5}, {"rope_scaling", {{"type", "linear"}, {"factor", 2}}}});
  EXPECT_EQ(parse(linear).rope.type, Type::linear);
  EXPECT_EQ(parse(linear).rope.factor, 2.0);
  EXPECT_EQ(parse(linear).rope.theta, 5e5);
  const json llama3 = with(small_config(), {{"rope_scaling",
                                             {{"rope_type", "llama3"},
                                              {"factor", 8.0},
                                              {"low_freq_factor", 1.5},
                                              {"high_freq_factor", 5.0},
                                              {"original_max_position_embeddings", 16}}}});
  const RopeConfig rope = parse(llama3).rope;
  EXPECT_EQ(rope.type, Type::llama3);
  EXPECT_EQ(rope.low_freq_factor, 1.5);
  EXPECT_EQ(rope.high_freq_factor, 5.0);
  EXPECT_EQ(rope.original_max_position, 16);
}

TEST(ModelConfig, RopeInTheSpellingOfTransformers5) {
  json config = small_config();
  config.erase("rope_theta");
  config["rope_parameters"] = {{"rope_type", "yarn"}, {"rope_theta", 1e6},        {"factor", 4.0},
                               {"beta_fast", 24.0},   {"attention_factor", 1.25}, {"mscale", 0.5},
                               {"truncate", false},   {"mscale_all_dim", nullptr}};
  const RopeConfig rope = parse(config).rope;
  EXPECT_EQ(rope.type, RopeConfig::Type::yarn);
  EXPECT_EQ(rope.theta, 1e6);
  EXPECT_EQ(rope.original_max_position, 64) << "falls back to max_position_embeddings";
  EXPECT_EQ(rope.beta_fast, 24.0);
  EXPECT_EQ(rope.beta_slow, 1.0);
  EXPECT_EQ(rope.attention_factor, 1.25);
  EXPECT_EQ(rope.mscale, 0.5);
  EXPECT_FALSE(rope.mscale_all_dim);
  EXPECT_FALSE(rope.truncate);
}

TEST(ModelConfig, RopePrecedence) {
  const json both = with(small_config(), {{"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}},
                                          {"rope_parameters", {{"rope_type", "dynamic"}, {"factor", 3.0}}}});
  EXPECT_EQ(parse(both).rope.type, RopeConfig::Type::linear);
  const json inner =
      with(small_config(), {{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 7e4}}}});
  EXPECT_EQ(parse(inner).rope.theta, 7e4);
  const json yarn =
      with(small_config(), {{"original_max_position_embeddings", 8},
                            {"rope_scaling", {{"type", "yarn"}, {"original_max_position_embeddings", 16}}}});
  EXPECT_EQ(parse(yarn).rope.original_max_position, 8);
  EXPECT_EQ(parse(yarn).rope.factor, 8.0) << "64 / 8";
}

TEST(ModelConfig, SlidingWindowOfMistral) {
  EXPECT_EQ(parse(small_config("mistral")).sliding_window, 4096) << "transformers' default";
  EXPECT_EQ(parse(with(small_config("mistral"), {{"sliding_window", 5}})).sliding_window, 5);
  EXPECT_EQ(parse(with(small_config("mistral"), {{"sliding_window", nullptr}})).sliding_window, std::nullopt);
  EXPECT_EQ(parse(with(small_config("llama"), {{"sliding_window", 5}})).sliding_window, std::nullopt);
}

TEST(ModelConfig, SlidingWindowOfQwen) {
  for (const char* family : {"qwen2", "qwen3"}) {
    const json off = with(small_config(family), {{"sliding_window", 5}, {"max_window_layers", 0}});
    EXPECT_EQ(parse(off).sliding_window, std::nullopt);
    const json from_1 = with(off, {{"use_sliding_window", true}, {"max_window_layers", 1}});
    EXPECT_EQ(parse(from_1).sliding_window, 5);
    EXPECT_EQ(parse(from_1).layer_slides, (std::vector<bool>{false, true}));
    const json listed = with(from_1, {{"layer_types", {"sliding_attention", "full_attention"}}});
    EXPECT_EQ(parse(listed).layer_slides, (std::vector<bool>{true, false}));
    const json null_window = with(from_1, {{"sliding_window", nullptr}});
    EXPECT_EQ(parse(null_window).sliding_window, std::nullopt);
  }
}

TEST(ModelConfig, DefaultsOfFamilies) {
  json gemma = small_config("gemma2");
  for (const char* key : {"head_dim", "tie_word_embeddings", "hidden_act", "rms_norm_eps"}) gemma.erase(key);
  const ModelConfig config = parse(gemma);
  EXPECT_EQ(config.head_dim, 256);
  EXPECT_EQ(config.activation, "gelu_pytorch_tanh");
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_EQ(config.attention_softcap, 50.0);
  EXPECT_EQ(config.final_softcap, 30.0);
  EXPECT_EQ(config.attention_scale, 1.0 / 16.0);
  EXPECT_EQ(config.sliding_window, 4096);
  EXPECT_EQ(config.layer_slides, (std::vector<bool>{true, false}));
  EXPECT_EQ(parse(small_config("gemma3_text")).final_softcap, std::nullopt);
  EXPECT_EQ(parse(with(gemma, {{"attn_logit_softcapping", nullptr}})).attention_softcap, std::nullopt);
  json mixtral = family_config("mixtral");
  for (const char* key : {"rms_norm_eps", "rope_theta", "sliding_window"}) mixtral.erase(key);
  EXPECT_EQ(parse(mixtral).rms_norm_eps, 1e-5);
  EXPECT_EQ(parse(mixtral).rope.theta, 1e6);
  EXPECT_EQ(parse(mixtral).sliding_window, std::nullopt);
  EXPECT_EQ(parse(small_config("llama")).attention_scale, 1.0 / std::sqrt(8.0));
}

TEST(ModelConfig, TheEmbeddingsScaleIsRoundedToTheCheckpointsType) {
  const json wide = with(small_config("gemma2"), {{"hidden_size", 3072}});  // sqrt: 55.4256
  EXPECT_EQ(parse(with(wide, {{"torch_dtype", "bfloat16"}})).embedding_scale, 55.5);
  EXPECT_EQ(parse(wide).embedding_scale, 55.4375);
  EXPECT_NEAR(parse(with(wide, {{"torch_dtype", "float32"}})).embedding_scale, 55.42562584, 1e-5);
  EXPECT_EQ(parse(small_config("llama")).embedding_scale, 1.0);
}

TEST(ModelConfig, RopeOfLocalLayers) {
  const ModelConfig old =
      parse(with(small_config("gemma3_text"), {{"rope_theta", 1e6},
                                               {"rope_local_base_freq", 5e3},
                                               {"rope_scaling", {{"rope_type", "linear"}, {"factor", 8}}}}));
  EXPECT_EQ(old.rope.type, RopeConfig::Type::linear);
  EXPECT_EQ(old.rope.theta, 1e6);
  EXPECT_EQ(old.local_rope->type, RopeConfig::Type::default_);
  EXPECT_EQ(old.local_rope->theta, 5e3);
  json fresh = small_config("gemma3_text");
  fresh.erase("rope_theta");
  EXPECT_EQ(parse(fresh).rope.theta, 1e6);
  EXPECT_EQ(parse(fresh).local_rope->theta, 1e4);
  fresh["rope_parameters"] = {{"full_attention", {{"rope_type", "default"}, {"rope_theta", 3e5}}},
                              {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 2e3}}}};
  EXPECT_EQ(parse(fresh).rope.theta, 3e5);
  EXPECT_EQ(parse(fresh).local_rope->theta, 2e3);
  EXPECT_EQ(parse(small_config("gemma2")).local_rope, std::nullopt);
}

TEST(ModelConfig, Experts) {
  const ExpertsConfig mixtral = *parse(family_config("mixtral")).experts;
  EXPECT_EQ(mixtral.count, 4);
  EXPECT_EQ(mixtral.per_token, 2);
  EXPECT_EQ(mixtral.width, 48);
  EXPECT_EQ(mixtral.shared_width, 0);
  EXPECT_TRUE(mixtral.normalise);
  EXPECT_EQ(mixtral.layers, (std::vector<bool>{true, true}));
  const ExpertsConfig qwen =
      *parse(with(family_config("qwen2_moe"),
                  {{"num_hidden_layers", 6}, {"decoder_sparse_step", 2}, {"mlp_only_layers", {3}}}))
           .experts;
  EXPECT_EQ(qwen.width, 24);
  EXPECT_EQ(qwen.shared_width, 40);
  EXPECT_FALSE(qwen.normalise);
  EXPECT_EQ(qwen.layers, (std::vector<bool>{false, true, false, false, false, true}));
  EXPECT_EQ(parse(small_config("qwen3")).experts, std::nullopt);
}

TEST(ModelConfig, TheTextPartOfGemma3) {
  const json text = {
      {"hidden_size", 2560},          {"intermediate_size", 10240},
      {"num_hidden_layers", 34},      {"model_type", "gemma3_text"},
      {"sliding_window", 1024},       {"torch_dtype", "float32"},
      {"tie_word_embeddings", false}, {"rope_scaling", {{"factor", 8.0}, {"rope_type", "linear"}}}};
  const json google = {{"architectures", {"Gemma3ForConditionalGeneration"}},
                       {"model_type", "gemma3"},
                       {"torch_dtype", "bfloat16"},
                       {"hidden_size", 1},
                       {"text_config", text},
                       {"vision_config", {{"hidden_size", 1152}}}};
  const ModelConfig config = parse(google);
  EXPECT_EQ(config.model_type, "gemma3");
  EXPECT_EQ(config.hidden_size, 2560) << "not the outer key";
  EXPECT_EQ(config.num_layers, 34);
  EXPECT_EQ(config.vocab_size, 262208) << "this and the rest: defaults of Gemma3TextConfig";
  EXPECT_EQ(config.num_heads, 8);
  EXPECT_EQ(config.num_kv_heads, 4);
  EXPECT_EQ(config.head_dim, 256);
  EXPECT_EQ(config.max_position, 131072);
  EXPECT_EQ(config.rope.type, RopeConfig::Type::linear);
  EXPECT_EQ(config.rope.theta, 1e6);
  EXPECT_EQ(config.local_rope->theta, 1e4);
  EXPECT_EQ(config.sliding_window, 1024);
  EXPECT_FALSE(config.layer_slides[5]);
  EXPECT_TRUE(config.layer_slides[6]);
  EXPECT_EQ(config.dtype, DType::BF16) << "the outer key goes first";
  EXPECT_TRUE(config.tie_word_embeddings) << "the outer key, or its default";
  EXPECT_EQ(config.embedding_scale, 50.5) << "sqrt(2560) is 50.596, BF16 has 50.5";
  json inner_dtype = google;
  inner_dtype.erase("torch_dtype");
  EXPECT_EQ(parse(inner_dtype).dtype, DType::F32);
}

struct BadConfig {
  const char* name;
  json changes;                    // to small_config(); "-": the key is removed
  std::vector<std::string> words;  // all must stand in the message
  const char* family = "llama";
};

class BadConfigs : public testing::TestWithParam<BadConfig> {};

TEST_P(BadConfigs, IsRefusedInOneClearLine) {
  json config = with(small_config(GetParam().family), GetParam().changes);
  for (const auto& [key, value] : GetParam().changes.items()) {
    if (value == "-") config.erase(key);
  }
  const std::string message = user_error_of([&] { parse(config); });
  EXPECT_THAT(message, testing::StartsWith("m/config.json: "));
  EXPECT_THAT(message, testing::Not(HasSubstr("\n")));
  for (const std::string& word : GetParam().words) EXPECT_THAT(message, HasSubstr(word));
}

/// With the keys of a mixture of experts.
json experts(const json& changes) {
  return with({{"num_experts", 4},
               {"num_experts_per_tok", 2},
               {"moe_intermediate_size", 24},
               {"shared_expert_intermediate_size", 40}},
              changes);
}

json text(const json& changes) { return {{"text_config", with(small_config("gemma3_text"), changes)}}; }

json rope(json parameters) { return {{"rope_scaling", std::move(parameters)}}; }

const BadConfig kBadConfigs[] = {
    {"unknown_family",
     {{"model_type", "lama"}},
     {"'lama'", "llama, mistral, qwen2, qwen3, gemma2", "did you mean 'llama'"}},
    {"missing_family", {{"model_type", "-"}}, {"'model_type'", "no such key"}},
    {"family_of_wrong_type", {{"model_type", 3}}, {"'model_type'", "a string", "found 3"}},
    {"classifier",
     {{"architectures", {"LlamaForSequenceClassification"}}},
     {"'architectures'", "ForCausalLM"}},
    {"architectures_not_a_list", {{"architectures", "LlamaForCausalLM"}}, {"'architectures'", "a list"}},
    {"missing_size", {{"hidden_size", "-"}}, {"'hidden_size'", "no such key"}},
    {"null_size", {{"vocab_size", nullptr}}, {"'vocab_size'", "found null"}},
    {"size_as_string", {{"hidden_size", "32"}}, {"'hidden_size'", "an integer", "found \"32\""}},
    {"size_as_fraction", {{"hidden_size", 32.0}}, {"'hidden_size'", "an integer", "found 32.0"}},
    {"size_as_flag", {{"num_hidden_layers", true}}, {"'num_hidden_layers'", "an integer", "found true"}},
    {"zero_size", {{"intermediate_size", 0}}, {"'intermediate_size'", "from 1", "found 0"}},
    {"negative_size", {{"num_attention_heads", -4}}, {"'num_attention_heads'", "from 1", "found -4"}},
    {"giant_layer_count", {{"num_hidden_layers", 1000000000}}, {"'num_hidden_layers'", "65536"}},
    {"beyond_64_bits", {{"vocab_size", 18446744073709551615ULL}}, {"'vocab_size'", "64 bits"}},
    {"missing_length", {{"max_position_embeddings", "-"}}, {"'max_position_embeddings'"}},
    {"kv_heads_do_not_divide",
     {{"num_key_value_heads", 3}},
     {"'num_key_value_heads'", "divisor", "(4)", "found 3"}},
    {"more_kv_heads_than_heads",
     {{"num_key_value_heads", 8}},
     {"'num_key_value_heads'", "divisor", "found 8"}},
    {"odd_head_dim", {{"head_dim", 7}}, {"'head_dim'", "even", "found 7"}},
    {"odd_head_dim_by_default",
     {{"head_dim", nullptr}, {"hidden_size", 36}},
     {"'head_dim'", "even", "not 9"}},
    {"heads_do_not_divide",
     {{"head_dim", nullptr}, {"hidden_size", 34}},
     {"'hidden_size'", "multiple", "found 34"}},
    {"unknown_activation", {{"hidden_act", "sillu"}}, {"'hidden_act'", "one of silu", "found \"sillu\""}},
    {"eps_of_wrong_type", {{"rms_norm_eps", "1e-5"}}, {"'rms_norm_eps'", "a number"}},
    {"negative_eps", {{"rms_norm_eps", -1e-5}}, {"'rms_norm_eps'", "[0, 1)"}},
    {"bias_of_wrong_type", {{"attention_bias", "no"}}, {"'attention_bias'", "true or false", "found \"no\""}},
    {"tie_of_wrong_type",
     {{"tie_word_embeddings", 1}},
     {"'tie_word_embeddings'", "true or false", "found 1"}},
    {"dtype_float64",
     {{"torch_dtype", "float64"}},
     {"'torch_dtype'", "float16, bfloat16 or float32", "\"float64\""}},
    {"dtype_float8", {{"dtype", "float8_e4m3fn"}}, {"'dtype'", "float16, bfloat16 or float32"}},
    {"theta_of_wrong_type", {{"rope_theta", "1e4"}}, {"'rope_theta'", "a number"}},
    {"theta_too_small", {{"rope_theta", 1.0}}, {"'rope_theta'", "above 1", "found 1.0"}},
    {"partial_rotation",
     {{"partial_rotary_factor", 0.5}},
     {"'partial_rotary_factor'", "all channels", "found 0.5"}},
    {"unknown_rope", rope({{"type", "mrope"}}), {"'rope_scaling.type'", "default, linear", "\"mrope\""}},
    {"rope_not_an_object", {{"rope_scaling", "linear"}}, {"'rope_scaling'", "an object", "found \"linear\""}},
    {"rope_without_factor", rope({{"type", "linear"}}), {"'rope_scaling.factor'", "a number", "no such key"}},
    {"rope_factor_zero",
     rope({{"type", "dynamic"}, {"factor", 0}}),
     {"'rope_scaling.factor'", "above 0", "found 0"}},
    {"llama3_without_low",
     rope({{"rope_type", "llama3"}, {"factor", 8}, {"high_freq_factor", 4}}),
     {"'rope_scaling.low_freq_factor'"}},
    {"llama3_reversed",
     rope({{"rope_type", "llama3"}, {"factor", 8}, {"low_freq_factor", 4}, {"high_freq_factor", 4}}),
     {"'rope_scaling.high_freq_factor'", "above low_freq_factor (4)"}},
    {"yarn_negative_length",
     rope({{"rope_type", "yarn"}, {"factor", 8}, {"original_max_position_embeddings", -1}}),
     {"'rope_scaling.original_max_position_embeddings'", "found -1"}},
    {"rope_per_layer_type",
     {{"rope_parameters", {{"full_attention", {{"rope_type", "default"}}}}}},
     {"'rope_parameters.full_attention'", "all layers"}},
    {"dynamic_on_two_channels",
     {{"head_dim", 2}, {"rope_scaling", {{"type", "dynamic"}, {"factor", 2}}}},
     {"'head_dim'", "dynamic"}},
    {"phi3_partial_odd",
     {{"partial_rotary_factor", 0.4}},
     {"'partial_rotary_factor'", "even", "found 0.4"},
     "phi3"},
    {"phi3_partial_above_one", {{"partial_rotary_factor", 1.5}}, {"'partial_rotary_factor'"}, "phi3"},
    {"phi3_linear_rope",
     rope({{"type", "linear"}, {"factor", 2}}),
     {"'rope_scaling.type'", "default or longrope"},
     "phi3"},
    {"longrope_without_factors",
     rope({{"type", "longrope"}}),
     {"'rope_scaling.short_factor'", "list of 4"},
     "phi3"},
    {"longrope_short_list",
     rope({{"type", "longrope"}, {"short_factor", {1, 1, 1, 1}}, {"long_factor", {1, 2, 3}}}),
     {"'rope_scaling.long_factor'", "list of 4", "found [1,2,3]"},
     "phi3"},
    {"longrope_zero",
     rope({{"type", "longrope"}, {"short_factor", {1, 0, 1, 1}}, {"long_factor", {1, 1, 1, 1}}}),
     {"'rope_scaling.short_factor'", "above 0"},
     "phi3"},
    {"softcap_zero", {{"attn_logit_softcapping", 0}}, {"'attn_logit_softcapping'", "above 0"}, "gemma2"},
    {"softcap_unknown",
     {{"attn_logit_softcapping", 50.0}},
     {"'attn_logit_softcapping'", "no such soft cap"},
     "gemma3_text"},
    {"query_scalar_zero", {{"query_pre_attn_scalar", 0}}, {"'query_pre_attn_scalar'", "above 0"}, "gemma2"},
    {"bidirectional",
     {{"use_bidirectional_attention", true}},
     {"'use_bidirectional_attention'", "causal"},
     "gemma3_text"},
    {"gemma_window_null", {{"sliding_window", nullptr}}, {"'sliding_window'", "some layers slide"}, "gemma2"},
    {"gemma_flat_rope",
     {{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 1e4}}}},
     {"'rope_parameters'", "full_attention and sliding_attention"},
     "gemma3_text"},
    {"gemma_local_theta",
     {{"rope_local_base_freq", 0.5}},
     {"'rope_local_base_freq'", "above 1"},
     "gemma3_text"},
    {"clip_negative", {{"clip_qkv", -1.0}}, {"'clip_qkv'", "above 0"}, "olmoe"},
    {"no_experts", {{"num_experts_per_tok", 2}}, {"'num_experts'", "no such key"}, "mixtral"},
    {"no_experts_per_token", {{"num_experts", 4}}, {"'num_experts_per_tok'", "no such key"}, "mixtral"},
    {"zero_experts", {{"num_experts", 0}, {"num_experts_per_tok", 1}}, {"'num_experts'", "from 1"}, "olmoe"},
    {"more_chosen_than_there_are",
     {{"num_experts", 4}, {"num_experts_per_tok", 5}},
     {"'num_experts_per_tok'", "at most", "(4)", "found 5"},
     "mixtral"},
    {"two_expert_counts",
     {{"num_experts", 4}, {"num_local_experts", 8}, {"num_experts_per_tok", 2}},
     {"'num_local_experts'", "num_experts (4)", "found 8"},
     "mixtral"},
    {"no_expert_width",
     {{"num_experts", 4}, {"num_experts_per_tok", 2}},
     {"'moe_intermediate_size'", "no such key"},
     "qwen3_moe"},
    {"no_shared_width",
     {{"num_experts", 4}, {"num_experts_per_tok", 2}, {"moe_intermediate_size", 24}},
     {"'shared_expert_intermediate_size'", "no such key"},
     "qwen2_moe"},
    {"dense_layer_beyond",
     {{"num_experts", 4},
      {"num_experts_per_tok", 2},
      {"moe_intermediate_size", 24},
      {"mlp_only_layers", {2}}},
     {"'mlp_only_layers'", "below num_hidden_layers (2)"},
     "qwen3_moe"},
    {"no_sparse_layer",
     {{"num_experts", 4},
      {"num_experts_per_tok", 2},
      {"moe_intermediate_size", 24},
      {"mlp_only_layers", {0, 1}}},
     {"'mlp_only_layers'", "at least one layer with experts"},
     "qwen3_moe"},
    {"giant_expert_count",
     {{"num_experts", 1 << 20}, {"num_experts_per_tok", 2}},
     {"'num_experts'", "65536"},
     "olmoe"},
    {"experts_as_fraction", experts({{"num_experts", 4.0}}), {"'num_experts'", "an integer"}, "mixtral"},
    {"experts_as_text", experts({{"num_experts", "4"}}), {"'num_experts'", "an integer"}, "qwen3_moe"},
    {"zero_experts_per_token",
     experts({{"num_experts_per_tok", 0}}),
     {"'num_experts_per_tok'", "from 1"},
     "mixtral"},
    {"expert_width_zero",
     experts({{"moe_intermediate_size", 0}}),
     {"'moe_intermediate_size'", "from 1"},
     "qwen2_moe"},
    {"shared_width_negative",
     experts({{"shared_expert_intermediate_size", -8}}),
     {"'shared_expert_intermediate_size'", "found -8"},
     "qwen2_moe"},
    {"sparse_step_zero",
     experts({{"decoder_sparse_step", 0}}),
     {"'decoder_sparse_step'", "from 1", "found 0"},
     "qwen3_moe"},
    {"sparse_step_beyond_the_last_layer",
     experts({{"decoder_sparse_step", 3}}),
     {"at least one layer with experts"},
     "qwen2_moe"},
    {"dense_layers_no_list",
     experts({{"mlp_only_layers", 1}}),
     {"'mlp_only_layers'", "a list of layers", "found 1"},
     "qwen3_moe"},
    {"dense_layer_negative",
     experts({{"mlp_only_layers", {-1}}}),
     {"'mlp_only_layers'", "below num_hidden_layers (2)", "found [-1]"},
     "qwen2_moe"},
    {"dense_layer_as_text", experts({{"mlp_only_layers", {"0"}}}), {"'mlp_only_layers'"}, "qwen2_moe"},
    {"normalise_of_wrong_type",
     experts({{"norm_topk_prob", "yes"}}),
     {"'norm_topk_prob'", "true or false"},
     "olmoe"},
    {"qkv_bias_of_wrong_type", experts({{"qkv_bias", 1}}), {"'qkv_bias'", "true or false"}, "qwen2_moe"},
    {"clip_of_wrong_type", {{"clip_qkv", "1"}}, {"'clip_qkv'", "a number"}, "olmoe"},
    {"softcap_of_wrong_type",
     {{"attn_logit_softcapping", "50"}},
     {"'attn_logit_softcapping'", "a number"},
     "gemma2"},
    {"final_softcap_negative",
     {{"final_logit_softcapping", -30.0}},
     {"'final_logit_softcapping'", "above 0"},
     "gemma2"},
    {"query_scalar_of_wrong_type",
     {{"query_pre_attn_scalar", "256"}},
     {"'query_pre_attn_scalar'", "a number"},
     "gemma3_text"},
    {"gemma_activation",
     {{"hidden_activation", "swiglu"}},
     {"'hidden_activation'", "one of silu", "found \"swiglu\""},
     "gemma2"},
    {"gemma_pattern_zero",
     {{"sliding_window_pattern", 0}},
     {"'sliding_window_pattern'", "from 1"},
     "gemma3_text"},
    {"gemma_layer_types_short", {{"layer_types", {"full_attention"}}}, {"'layer_types'", "(2)"}, "gemma2"},
    {"gemma_rope_no_object",
     {{"rope_parameters", {{"full_attention", 3}}}},
     {"'rope_parameters.full_attention'", "an object", "found 3"},
     "gemma3_text"},
    {"gemma_local_rope_theta",
     {{"rope_parameters", {{"sliding_attention", {{"rope_theta", -1.0}}}}}},
     {"'rope_parameters.sliding_attention.rope_theta'", "above 1"},
     "gemma3_text"},
    {"longrope_factor_as_text",
     rope({{"type", "longrope"}, {"short_factor", {1, 1, 1, "1"}}, {"long_factor", {1, 1, 1, 1}}}),
     {"'rope_scaling.short_factor'", "list of 4"},
     "phi3"},
    {"phi3_partial_negative", {{"partial_rotary_factor", -0.5}}, {"'partial_rotary_factor'"}, "phi3"},
    {"no_text_config", {{"text_config", "-"}}, {"'text_config'", "an object", "no such key"}, "gemma3"},
    {"text_config_no_object", {{"text_config", 3}}, {"'text_config'", "an object", "found 3"}, "gemma3"},
    {"text_size_zero", text({{"hidden_size", 0}}), {"'text_config.hidden_size'", "from 1"}, "gemma3"},
    {"text_rope",
     text({{"rope_scaling", {{"rope_type", "linear"}}}}),
     {"'text_config.rope_scaling.factor'", "no such key"},
     "gemma3"},
    {"text_softcap",
     text({{"final_logit_softcapping", 30.0}}),
     {"'text_config.final_logit_softcapping'", "no such soft cap"},
     "gemma3"},
    {"text_architecture",
     with(text(json::object()), {{"architectures", {"Gemma3ForCausalLM"}}}),
     {"'architectures'", "...ForConditionalGeneration"},
     "gemma3"},
    {"window_zero", {{"sliding_window", 0}}, {"'sliding_window'", "from 1", "found 0"}, "mistral"},
    {"mistral_layer_types", {{"layer_types", {"full_attention"}}}, {"'layer_types'", "ministral"}, "mistral"},
    {"too_few_layer_types", {{"layer_types", {"full_attention"}}}, {"'layer_types'", "(2)"}, "qwen2"},
    {"unknown_layer_type",
     {{"layer_types", {"full_attention", "chunked_attention"}}},
     {"'layer_types'", "sliding_attention"},
     "qwen3"},
    {"sliding_without_window",
     {{"layer_types", {"full_attention", "sliding_attention"}}, {"sliding_window", 4}},
     {"'layer_types'", "use_sliding_window"},
     "qwen3"},
};

INSTANTIATE_TEST_SUITE_P(Table, BadConfigs, testing::ValuesIn(kBadConfigs),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(ModelConfig, RefusesWhatIsNoObject) {
  EXPECT_THAT(user_error_of([] { parse(json::array({1})); }),
              AllOf(HasSubstr("m/config.json"), HasSubstr("object")));
}

}  // namespace
}  // namespace lathe
