#include "formats/targets/model_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "lib/base/error.h"
#include "tests/unit/formats/targets/artefact_fixture.h"

namespace lathe {
namespace {

using test::Artefact;
using test::TemporaryFolder;
using ::testing::HasSubstr;

constexpr const char* kLinear = "model.layers.1.mlp.up_proj";
const Scheme kInt4{.type = "int", .bits = 4, .group_size = 32, .symmetric = false};

std::string tensor_of(const char* suffix) { return std::string(kLinear) + suffix; }

/// What open_model_folder, or reading every weight of the folder after it, has to say.
std::string error_of(const Artefact& artefact) {
  const TemporaryFolder folder;
  artefact.write(folder.path());
  try {
    const ModelFolder opened = open_model_folder(folder.path());
    for (const auto& [name, shape] : opened.graph.expected_tensors()) opened.weights->load(name);
  } catch (const UserError& error) {
    const std::string message = error.what();
    EXPECT_THAT(message, HasSubstr(folder.path().string())) << "the message names no file";
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message;
  }
  return "";
}

TEST(ModelFolder, FloatingPointFolder) {
  Artefact model;
  model.tensors["model.norm.weight"] = model.tensors["model.norm.weight"].to(at::kFloat);
  const TemporaryFolder folder;
  model.write(folder.path());
  const ModelFolder opened = open_model_folder(folder.path());
  EXPECT_FALSE(opened.quantized);
  EXPECT_TRUE(opened.schemes.empty());
  EXPECT_FALSE(opened.weights->contains("model.layers.9.mlp.up_proj.weight"));
  for (const auto& [name, tensor] : model.tensors) {
    ASSERT_TRUE(opened.weights->contains(name));
    const at::Tensor loaded = opened.weights->load(name);
    EXPECT_EQ(loaded.scalar_type(), at::kFloat);
    EXPECT_TRUE(loaded.equal(tensor.to(at::kFloat))) << name;
    loaded.fill_(3);  // owned by the caller: neither the file nor the next load sees it
    EXPECT_TRUE(opened.weights->load(name).equal(tensor.to(at::kFloat))) << name;
  }
}

TEST(ModelFolder, RowsAreLookedUpWithoutTheOthers) {
  Artefact model;
  const std::string name = "model.embed_tokens.weight";
  model.tensors[name][2][1] = std::numeric_limits<float>::quiet_NaN();
  const TemporaryFolder folder;
  model.write(folder.path());
  const ModelFolder opened = open_model_folder(folder.path());
  const at::Tensor rows = at::tensor({3, 0, 3}, at::kLong);
  EXPECT_TRUE(
      opened.weights->load_rows(name, rows).equal(model.tensors[name].to(at::kFloat).index_select(0, rows)));
  try {
    opened.weights->load_rows(name, at::tensor({0, 2}, at::kLong));
    FAIL() << "a NaN was read";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("tensor 'model.embed_tokens.weight': the value at [2, 1] is NaN"));
  }
}

TEST(ModelFolder, Bfloat16IsConvertedExactly) {
  Artefact model;
  model.config["dtype"] = "bfloat16";
  for (auto& [name, tensor] : model.tensors) tensor = tensor.to(at::kBFloat16);
  const TemporaryFolder folder;
  model.write(folder.path());
  const ModelFolder opened = open_model_folder(folder.path());
  for (const auto& [name, tensor] : model.tensors) {
    EXPECT_TRUE(opened.weights->load(name).equal(tensor.to(at::kFloat))) << name;
  }
}

TEST(ModelFolder, LargeFiniteValuesWhoseSumOverflowsAreFine) {
  Artefact model;
  for (auto& [name, tensor] : model.tensors) tensor = tensor.to(at::kFloat);
  model.config["dtype"] = "float32";
  model.tensors["model.norm.weight"].fill_(3e38f);
  EXPECT_EQ(error_of(model), "");
}

TEST(ModelFolder, StoredValuesKeepTheirDtype) {
  for (const auto& [name_of_type, type] : {std::pair("bfloat16", at::kBFloat16), {"float16", at::kHalf}}) {
    Artefact model;
    model.config["dtype"] = name_of_type;
    for (auto& [name, tensor] : model.tensors) tensor = tensor.to(type);
    model.tensors["model.norm.weight"] = model.tensors["model.norm.weight"].to(at::kFloat);
    model.tensors["model.layers.0.mlp.up_proj.weight"].fill_(60000);  // finite, but F16 can't hold the sum
    const TemporaryFolder folder;
    model.write(folder.path());
    const ModelFolder opened = open_model_folder(folder.path());
    for (const auto& [name, tensor] : model.tensors) {
      const at::Tensor loaded = opened.weights->load_stored(name);
      EXPECT_EQ(loaded.scalar_type(), tensor.scalar_type()) << name;
      EXPECT_TRUE(loaded.equal(tensor)) << name;
      loaded.fill_(3);  // owned by the caller
      EXPECT_TRUE(opened.weights->load_stored(name).equal(tensor)) << name;
    }
  }
}

TEST(ModelFolder, StoredValuesAreChecked) {
  Artefact model;
  model.tensors.at(tensor_of(".weight"))[2][3] = std::numeric_limits<double>::quiet_NaN();
  const TemporaryFolder folder;
  model.write(folder.path());
  const ModelFolder opened = open_model_folder(folder.path());
  try {
    opened.weights->load_stored(tensor_of(".weight"));
    FAIL() << "a NaN went unnoticed";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("up_proj.weight': the value at [2, 3] is NaN"));
  }
}

TEST(ModelFolder, PackedWeightsHaveNoStoredDtypeButFp32) {
  Artefact artefact;
  artefact.pack([](const Linear&) { return kInt4; });
  const TemporaryFolder folder;
  artefact.write(folder.path());
  const ModelFolder opened = open_model_folder(folder.path());
  const at::Tensor loaded = opened.weights->load_stored(tensor_of(".weight"));
  EXPECT_EQ(loaded.scalar_type(), at::kFloat);
  EXPECT_TRUE(loaded.equal(opened.weights->load(tensor_of(".weight"))));
}

TEST(ModelFolder, ArtefactReadsBackCodesScalesAndZeros) {
  for (int bits = 2; bits <= 8; ++bits) {
    for (const bool symmetric : {true, false}) {
      for (const int64_t group_size : {int64_t{32}, int64_t{-1}}) {
        const Scheme scheme{.type = "int", .bits = bits, .group_size = group_size, .symmetric = symmetric};
        SCOPED_TRACE(scheme.describe());
        Artefact artefact;
        artefact.pack([&](const Linear&) { return scheme; });
        const TemporaryFolder folder;
        artefact.write(folder.path());
        const ModelFolder opened = open_model_folder(folder.path());
        EXPECT_TRUE(opened.quantized);
        ASSERT_EQ(opened.schemes.size(), 14u);
        for (const auto& [name, expected] : artefact.quantized) {
          EXPECT_EQ(opened.schemes.at(name), scheme);
          const QuantizedTensor read = opened.read_quantized(name);
          EXPECT_EQ(read.scheme, scheme);
          EXPECT_EQ(read.scale_dtype, DType::F16);
          EXPECT_TRUE(read.codes.equal(expected.codes));
          EXPECT_TRUE(read.scales.equal(expected.scales));
          ASSERT_EQ(read.zero_points.defined(), !symmetric);
          EXPECT_TRUE(symmetric || read.zero_points.equal(expected.zero_points));
          ASSERT_TRUE(opened.weights->contains(name + ".weight"));
          EXPECT_TRUE(opened.weights->load(name + ".weight").equal(expected.dequantize()));
        }
      }
    }
  }
}

TEST(ModelFolder, MixOfSchemesAndPlainLinears) {
  Artefact artefact;
  const at::Tensor plain = artefact.tensors.at("model.layers.0.self_attn.o_proj.weight").to(at::kFloat);
  artefact.pack([](const Linear& linear) -> std::optional<Scheme> {
    if (linear.role == LinearRole::o_proj) return std::nullopt;
    if (linear.role == LinearRole::down_proj)
      return Scheme{.type = "int", .bits = 8, .group_size = -1, .symmetric = true};
    return kInt4;
  });
  const TemporaryFolder folder;
  artefact.write(folder.path());
  const ModelFolder opened = open_model_folder(folder.path());
  EXPECT_EQ(opened.schemes.size(), 12u);
  EXPECT_FALSE(opened.schemes.contains("model.layers.0.self_attn.o_proj"));
  EXPECT_EQ(opened.schemes.at("model.layers.1.mlp.down_proj").bits, 8);
  EXPECT_EQ(opened.schemes.at(kLinear), kInt4);
  EXPECT_TRUE(opened.weights->load("model.layers.0.self_attn.o_proj.weight").equal(plain));
}

TEST(ModelFolder, TargetsAsTheLibraryMatchesThem) {
  Artefact artefact;
  artefact.pack([](const Linear& linear) -> std::optional<Scheme> {
    if (linear.name.starts_with("model.layers.0.")) return std::nullopt;
    return linear.role == LinearRole::q_proj
               ? Scheme{.type = "int", .bits = 8, .group_size = 16, .symmetric = true}
               : kInt4;
  });
  auto& config = artefact.config["quantization_config"];
  auto groups = config["config_groups"];
  const auto wide = groups.at("group_0"), narrow = groups.at("group_1");  // q_proj comes first
  ASSERT_EQ(wide.at("weights").at("num_bits"), 8);
  // A regular expression beats a class name whatever the order of groups, and is anchored at the start of the
  // name only.
  config["config_groups"] = {{"a", narrow}, {"b", wide}};
  config["config_groups"]["a"]["targets"] = {"Linear"};
  config["config_groups"]["b"]["targets"] = {"re:.*\\.q_proj$"};
  config["ignore"] = {"re:model\\.layers\\.0\\.", "lm_head"};
  EXPECT_EQ(error_of(artefact), "");
  config["ignore"] = {"re:layers\\.0\\.", "lm_head"};  // not at the start: ignores nothing
  EXPECT_THAT(error_of(artefact), HasSubstr("'model.layers.0.self_attn.q_proj.weight_packed' is missing"));
}

struct Corruption {
  const char* name;
  std::function<void(Artefact&)> apply;
  std::string message;
};

void expect_refusals(const std::vector<Corruption>& table) {
  for (const Corruption& corruption : table) {
    SCOPED_TRACE(corruption.name);
    Artefact artefact;
    artefact.pack([](const Linear&) { return kInt4; });
    corruption.apply(artefact);
    EXPECT_THAT(error_of(artefact), HasSubstr(corruption.message));
  }
}

TEST(ModelFolder, CorruptTensorsAreRefused) {
  const auto erase = [](const char* suffix) {
    return [=](Artefact& a) { a.tensors.erase(tensor_of(suffix)); };
  };
  const auto retype = [](const char* suffix, at::ScalarType type) {
    return [=](Artefact& a) { a.tensors[tensor_of(suffix)] = a.tensors.at(tensor_of(suffix)).to(type); };
  };
  const auto cut = [](const char* suffix, int64_t axis) {
    return [=](Artefact& a) {
      at::Tensor& tensor = a.tensors.at(tensor_of(suffix));
      tensor = tensor.narrow(axis, 0, tensor.size(axis) - 1).contiguous();
    };
  };
  const auto set_scale = [](double value) {
    return [=](Artefact& a) { a.tensors.at(tensor_of(".weight_scale"))[3][1] = value; };
  };
  const auto put = [](const char* suffix, at::Tensor tensor) {
    return [=](Artefact& a) { a.tensors[tensor_of(suffix)] = tensor; };
  };
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  expect_refusals({
      {"no packed", erase(".weight_packed"), "tensor 'model.layers.1.mlp.up_proj.weight_packed' is missing"},
      {"no scale", erase(".weight_scale"), "up_proj.weight_scale' is missing: expected F16 [96, 2]"},
      {"no shape", erase(".weight_shape"), "up_proj.weight_shape' is missing: expected I64 [2]"},
      {"no zeros", erase(".weight_zero_point"),
       "up_proj.weight_zero_point' is missing: expected I32 [12, 2]"},
      {"packed cut", cut(".weight_packed", 1),
       "up_proj.weight_packed': expected I32 [96, 8], found I32 [96, 7]"},
      {"scale cut", cut(".weight_scale", 1),
       "up_proj.weight_scale': expected F16 [96, 2], found F16 [96, 1]"},
      {"zeros cut", cut(".weight_zero_point", 0),
       "up_proj.weight_zero_point': expected I32 [12, 2], found I32 [11, 2]"},
      {"shape cut", cut(".weight_shape", 0), "up_proj.weight_shape': expected I64 [2], found I64 [1]"},
      {"packed dtype", retype(".weight_packed", at::kLong),
       "up_proj.weight_packed': expected I32 [96, 8], found I64 [96, 8]"},
      {"scale dtype", retype(".weight_scale", at::kDouble),
       "up_proj.weight_scale': expected F16 [96, 2], found F64 [96, 2]"},
      {"shape dtype", retype(".weight_shape", at::kInt),
       "up_proj.weight_shape': expected I64 [2], found I32 [2]"},
      {"shape values", put(".weight_shape", at::tensor({int64_t{64}, int64_t{96}}, at::kLong)),
       "up_proj.weight_shape': expected the values [96, 64], found [64, 96]"},
      {"activation order", put(".weight_g_idx", at::zeros({64}, at::kInt)),
       "up_proj.weight_g_idx': not expected beside a linear stored as int4 asym g32 (activation order "
       "'group' is not supported"},
      {"input scale", put(".input_scale", at::ones({1})), "up_proj.input_scale': not expected"},
      {"plain weight too", put(".weight", at::ones({96, 64}, at::kHalf)), "up_proj.weight': not expected"},
      {"NaN scale", set_scale(nan), "up_proj.weight_scale': the value at [3, 1] is NaN"},
      {"infinite scale", set_scale(inf), "up_proj.weight_scale': the value at [3, 1] is infinite"},
      {"zero scale", set_scale(0),
       "up_proj.weight_scale': the scale at [3, 1] is 0: expected a positive number"},
      {"negative scale", set_scale(-0.5), "up_proj.weight_scale': the scale at [3, 1] is -0.5"},
      {"NaN in a norm", [=](Artefact& a) { a.tensors.at("model.norm.weight")[5] = nan; },
       "model.safetensors: tensor 'model.norm.weight': the value at [5] is NaN"},
      {"infinite embedding", [=](Artefact& a) { a.tensors.at("model.embed_tokens.weight")[49][63] = -inf; },
       "tensor 'model.embed_tokens.weight': the value at [49, 63] is infinite"},
      {"no norm", [](Artefact& a) { a.tensors.erase("model.norm.weight"); },
       "tensor 'model.norm.weight' [64] is missing"},
  });
}

TEST(ModelFolder, StrangeConfigsAreRefused) {
  using Json = nlohmann::json;
  const auto top = [](const char* key, Json value) {
    return [=](Artefact& a) { a.config["quantization_config"][key] = value; };
  };
  const auto group = [](const char* key, Json value) {
    return [=](Artefact& a) { a.config["quantization_config"]["config_groups"]["group_0"][key] = value; };
  };
  const auto weights = [](const char* key, Json value) {
    return [=](Artefact& a) {
      a.config["quantization_config"]["config_groups"]["group_0"]["weights"][key] = value;
    };
  };
  expect_refusals({
      {"method", top("quant_method", "eetq"),
       "quant_method: expected compressed-tensors, gptq, awq, modelopt, hqq, spqr, bitnet, aqlm, vptq, "
       "bitsandbytes or fp8, "
       "found "
       "'eetq'"},
      {"no method", [](Artefact& a) { a.config["quantization_config"].erase("quant_method"); },
       "expected an object with the key 'quant_method'"},
      {"format", top("format", "marlin-24"),
       "quantization_config.format: expected pack-quantized or int-quantized or float-quantized or "
       "nvfp4-pack-quantized or mxfp4-pack-quantized or mxfp6-pack-quantized or mxfp8-quantized or "
       "mixed-precision, found "
       "'marlin-24'"},
      {"status", top("quantization_status", "frozen"),
       "quantization_status: expected compressed, found 'frozen'"},
      {"kv cache", top("kv_cache_scheme", {{"num_bits", 8}}), "kv_cache_scheme: missing key 'type'"},
      {"sparsity", top("sparsity_config", {{"format", "sparse-24-bitmask"}}),
       "sparsity_config: expected null"},
      {"transform", top("transform_config", {{"config_groups", {{"R1", 1}}}}),
       "transform_config.config_groups.R1: expected an object, found '1'"},
      {"unknown key", top("ignored", Json::array()), "unknown key 'ignored'; did you mean 'ignore'?"},
      {"ignore", top("ignore", "lm_head"), "ignore: expected a list of names, found 'lm_head'"},
      {"groups", top("config_groups", Json::array()), "config_groups: expected an object, found '[]'"},
      {"no groups", [](Artefact& a) { a.config["quantization_config"].erase("config_groups"); },
       "missing key 'config_groups'"},
      {"activations", group("input_activations", {{"num_bits", 8}}),
       "group_0.input_activations: missing key 'type'"},
      {"integer activations of packed weights",
       group(
           "input_activations",
           {{"num_bits", 8}, {"type", "int"}, {"symmetric", true}, {"strategy", "token"}, {"dynamic", true}}),
       "group_0.input_activations: expected none, or fp8_e4m3 dynamic per token, beside pack-quantized, "
       "found int8 "
       "sym dynamic per token"},
      {"static activations of packed weights",
       group("input_activations", {{"num_bits", 8},
                                   {"type", "float"},
                                   {"symmetric", true},
                                   {"strategy", "tensor"},
                                   {"dynamic", false}}),
       "beside pack-quantized, found fp8_e4m3 static per tensor"},
      {"group format", group("format", "int-quantized"), "group_0.format: expected pack-quantized, found"},
      {"bad regex", group("targets", {"re:(["}), "group_0.targets: bad regular expression"},
      {"weights null", group("weights", nullptr), "group_0.weights: expected an object, found 'null'"},
      {"group key", group("extra", 1), "group_0: unknown key 'extra'"},
      {"bits", weights("num_bits", 9), "weights.num_bits: expected 2 to 8, found '9'"},
      {"bits type", weights("num_bits", "4"), "weights.num_bits: expected 2 to 8"},
      {"type", weights("type", "nf4"), "weights.type: expected int or float, found 'nf4'"},
      {"symmetric", weights("symmetric", 1), "weights.symmetric: expected true or false, found '1'"},
      {"strategy", weights("strategy", "block"),
       "weights.strategy: expected group or channel, found 'block'"},
      {"group size", weights("group_size", 0), "weights.group_size: expected a positive number, found '0'"},
      {"channel with groups", weights("strategy", "channel"),
       "weights.group_size: expected none, with strategy channel, found '32'"},
      {"no group size", weights("group_size", nullptr), "missing key 'group_size'"},
      {"group size that doesn't divide", weights("group_size", 40),
       "with group_size 40, which does not divide its 64 input features"},
      {"actorder", weights("actorder", "group"),
       "weights.actorder: expected static or weight, found 'group'"},
      {"dynamic", weights("dynamic", true), "weights.dynamic: expected false"},
      {"weights key", weights("act_order", 1), "weights: unknown key 'act_order'; did you mean 'actorder'?"},
      {"packed but ignored",
       [](Artefact& a) { a.config["quantization_config"]["ignore"].push_back(kLinear); },
       "up_proj.weight_packed': is stored, but quantization_config leaves 'model.layers.1.mlp.up_proj' in "
       "floating point"},
      {"named but plain", [](Artefact& a) { a.config["quantization_config"]["ignore"] = Json::array(); },
       "tensor 'lm_head.weight_packed' is missing, but quantization_config stores 'lm_head' as int4 asym "
       "g32; list it in `ignore`"},
      {"other zero points", weights("symmetric", true),
       "weight_zero_point': not expected beside a linear stored as int4 sym g32"},
  });
}

}  // namespace
}  // namespace lathe
