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
