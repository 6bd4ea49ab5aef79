// FP8, NVFP4 and MX through compressed-tensors and modelopt: what is written is read back, and what is
// damaged is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "formats/targets/compressed_tensors_config.h"
#include "formats/targets/float_quantized.h"
#include "formats/targets/model_folder.h"
#include "formats/targets/modelopt_config.h"
#include "lib/base/error.h"
#include "lib/kernels/dequantize.h"
#include "tests/unit/formats/targets/artefact_fixture.h"

namespace lathe {
namespace {

using test::Artefact;
using test::TemporaryFolder;
using ::testing::HasSubstr;
using Per = ActivationScheme::Per;

const Scheme kTensor = Scheme::of_floats("fp8_e4m3", -1, -1), kChannel = Scheme::of_floats("fp8_e4m3"),
             kBlocks = Scheme::of_floats("fp8_e4m3", 128, 128), kNvfp4 = Scheme::of_floats("nvfp4"),
             kMxfp4 = Scheme::of_floats("mxfp4"), kMxfp8 = Scheme::of_floats("mxfp8"),
             kMxfp6 = Scheme::of_floats("mxfp6_e2m3"),
             kInt4{.type = "int", .bits = 4, .group_size = 64, .symmetric = true},
             kInt4Wide{.type = "int", .bits = 4, .group_size = 128, .symmetric = true};

ActivationScheme fp8(bool dynamic, Per per) {
  ActivationScheme scheme = ActivationScheme::of_floats("fp8_e4m3");
  scheme.dynamic = dynamic;
  scheme.per = per;
  if (per == Per::group) scheme.group_size = 128;
  return scheme;
}

struct Case {
  const char* format;
  Scheme scheme;
  std::optional<ActivationScheme> activations;
  std::string stored;  // format of compressed-tensors, or algorithm of modelopt
};

Scheme rotated(Scheme scheme, int64_t block) {
  scheme.hadamard = block;
  return scheme;
}

std::vector<Case> cases() {
  const auto nvfp4 = ActivationScheme::of_floats("nvfp4");
  return {{"compressed-tensors", kTensor, fp8(false, Per::tensor), "float-quantized"},
          {"compressed-tensors", kTensor, std::nullopt, "float-quantized"},
          {"compressed-tensors", kChannel, fp8(true, Per::token), "float-quantized"},
          {"compressed-tensors", kBlocks, fp8(true, Per::group), "float-quantized"},
          {"compressed-tensors", kNvfp4, std::nullopt, "nvfp4-pack-quantized"},
          {"compressed-tensors", kNvfp4, nvfp4, "nvfp4-pack-quantized"},
          {"compressed-tensors", kMxfp4, std::nullopt, "mxfp4-pack-quantized"},
          {"compressed-tensors", kMxfp4, ActivationScheme::of_floats("mxfp4"), "mxfp4-pack-quantized"},
          {"compressed-tensors", kMxfp6, std::nullopt, "mxfp6-pack-quantized"},
          {"compressed-tensors", kMxfp6, ActivationScheme::of_floats("mxfp8"), "mxfp6-pack-quantized"},
          {"compressed-tensors", kMxfp8, std::nullopt, "mxfp8-quantized"},
          {"compressed-tensors", kMxfp8, ActivationScheme::of_floats("mxfp8"), "mxfp8-quantized"},
          {"compressed-tensors", rotated(kNvfp4, 16), std::nullopt, "nvfp4-pack-quantized"},
          {"compressed-tensors", rotated(kNvfp4, 128), nvfp4, "nvfp4-pack-quantized"},
          {"compressed-tensors", rotated(kMxfp4, 32), ActivationScheme::of_floats("mxfp4"),
           "mxfp4-pack-quantized"},
          {"modelopt", kTensor, fp8(false, Per::tensor), "FP8"},
          {"modelopt", kChannel, fp8(true, Per::token), "FP8_PER_CHANNEL_PER_TOKEN"},
          {"modelopt", kBlocks, fp8(true, Per::group), "fp8_pb_wo"},
          {"modelopt", kNvfp4, nvfp4, "NVFP4"},
          {"modelopt", kNvfp4, std::nullopt, "W4A16_NVFP4"},
          {"modelopt", kInt4, std::nullopt, "W4A16_AWQ"},
          {"modelopt", kInt4Wide, fp8(false, Per::tensor), "W4A8_AWQ"}};
}

std::optional<InputQuantizer> quantizer(const Case& test) {
  if (!test.activations) return std::nullopt;
  InputQuantizer input{.scheme = *test.activations};
  input.hadamard = test.scheme.hadamard;
  if (input.scheme.calibrated()) input.scale = kernels::global_scale(at::full({}, 84.f)).item<float>();
  return input;
}

/// Linears of 128 and more columns, which blocks divide.
nlohmann::json wide_config() {
  nlohmann::json config = test::tiny_llama_config();
  config["hidden_size"] = 128;
  config["head_dim"] = 32;
  config["intermediate_size"] = 256;
  return config;
}

Artefact artefact_of(const Case& test) {
  Artefact artefact(wide_config());
  artefact.format = test.format;
  if (artefact.format == "modelopt" && test.scheme.type != "int") artefact.scale_dtype = DType::F32;
  artefact.pack([&](const Linear&) { return test.scheme; }, [&](const Linear&) { return quantizer(test); });
  return artefact;
}

TEST(FloatTargets, ArtefactReadsBackCodesScalesAndInputGrids) {
  for (const Case& test : cases()) {
    SCOPED_TRACE(std::string(test.format) + " " + test.stored + " " +
                 with_input(test.scheme.describe(), test.activations));
    const Artefact artefact = artefact_of(test);
    const auto& config = artefact.config.at("quantization_config");
    EXPECT_EQ(config.at(test.format == std::string("modelopt") ? "quant_algo" : "format"), test.stored);
    const TemporaryFolder folder;
    artefact.write(folder.path());
    const ModelFolder opened = open_model_folder(folder.path());
    ASSERT_EQ(opened.schemes.size(), 14u);
    for (const auto& [name, expected] : artefact.quantized) {
      EXPECT_EQ(opened.schemes.at(name), test.scheme);
      const QuantizedTensor read = opened.read_quantized(name);
      EXPECT_EQ(read.scale_dtype, expected.scale_dtype);
      EXPECT_TRUE(read.codes.equal(expected.codes));
      EXPECT_TRUE(read.scales.equal(expected.scales));
      ASSERT_EQ(read.global_scale.defined(), expected.global_scale.defined());
      if (read.global_scale.defined()) {
        EXPECT_TRUE(read.global_scale.equal(expected.global_scale));
      }
      EXPECT_TRUE(opened.weights->load(name + ".weight").equal(kernels::dequantized_weight(expected)));
      const auto input = opened.weights->input_quantizer(name);
      ASSERT_EQ(input.has_value(), test.activations.has_value());
      if (!input) continue;
      EXPECT_EQ(opened.activations.at(name), *test.activations);
      EXPECT_EQ(input->scheme, *test.activations);
      EXPECT_EQ(input->scale, quantizer(test)->scale);
      EXPECT_EQ(input->hadamard, test.scheme.hadamard);
    }
    EXPECT_FALSE(opened.weights->input_quantizer("lm_head"));
  }
}

TEST(FloatTargets, LayoutPromisesWhatPackDelivers) {
  for (const Case& test : cases()) {
    SCOPED_TRACE(std::string(test.format) + " " + test.stored);
    const Artefact artefact = artefact_of(test);
    for (const Block& block : artefact.graph.blocks) {
      for (const Linear& linear : block.linears) {
        PlannedLinear planned{linear.name, linear.out,           linear.in,
                              test.scheme, artefact.scale_dtype, linear.role};
        planned.activations = test.activations;
        EXPECT_EQ(find_target(test.format).refuses(planned), std::nullopt);
        const auto layout = find_target(test.format).layout(planned);
        const auto packed = find_target(test.format).pack(linear.name, artefact.quantized.at(linear.name));
        ASSERT_EQ(layout.size(), packed.size()) << linear.name;
        for (size_t i = 0; i < layout.size(); ++i) {
          EXPECT_EQ(layout[i].name, packed[i].first);
          EXPECT_EQ(layout[i].info, info_of(packed[i].second)) << layout[i].name;
        }
      }
    }
  }
}

TEST(FloatTargets, ModeloptsConfigsAreItsOwn) {
  // tests/golden/floats/modelopt_configs.json: what modelopt 0.47 writes for each algorithm.
  const auto golden = nlohmann::json::parse(
      read_text_file(test::fs::path(LATHE_SOURCE_DIR) / "tests/golden/floats/modelopt_configs.json"));
  for (const Case& test : cases()) {
    if (test.format != std::string("modelopt")) continue;
    SCOPED_TRACE(test.stored);
    const auto entry = std::ranges::find_if(golden, [&](const nlohmann::json& pair) {
      return pair.at("config.json/quantization_config").at("quant_algo") == test.stored;
    });
    ASSERT_NE(entry, golden.end());
    Scheme scheme = test.scheme;
    if (scheme.type == "int") scheme.group_size = 128;
    PlannedLinear planned{"model.layers.0.mlp.down_proj", 128, 256, scheme, DType::F16,
                          LinearRole::down_proj};
    planned.activations = test.activations;
    nlohmann::json config = find_target("modelopt").quantization_config({planned}, {"lm_head"});
    const auto files = find_target("modelopt").side_files(config);
    ASSERT_EQ(files.size(), 1u);
    EXPECT_EQ(files[0].first, "hf_quant_config.json");
    EXPECT_EQ(files[0].second, entry->at("hf_quant_config.json"));
    config.erase("group_size");  // beside modelopt's keys: vLLM looks for it
    EXPECT_EQ(config, entry->at("config.json/quantization_config"));
    for (const char* form : {"hf_quant_config.json", "config.json/quantization_config"}) {
      const ModeloptConfig parsed = parse_modelopt_config(entry->at(form), "file");
      EXPECT_EQ(parsed.grid->scheme, scheme);
      EXPECT_EQ(parsed.grid->activations, test.activations);
      EXPECT_TRUE(parsed.excludes("lm_head"));
      EXPECT_FALSE(parsed.excludes("model.layers.0.mlp.down_proj"));
    }
  }
}

/// A linear of a mixed model, as modelopt names its algorithm.
PlannedLinear mixed_linear(const std::string& name, const char* algorithm, LinearRole role) {
  const ModeloptGrid grid = *modelopt_grid(algorithm, 128);
  PlannedLinear linear{"model.layers.0." + name, 128, 256, grid.scheme, DType::F16, role};
  linear.activations = grid.activations;
  return linear;
}

TEST(FloatTargets, MixedAlgorithmsAreModelopts) {
  // tests/golden/floats/modelopt_mixed.json: process_layer_quant_config() and
  // convert_hf_quant_config_format() of modelopt 0.47.
  using enum LinearRole;
  const std::vector<std::vector<PlannedLinear>> models = {
      {mixed_linear("self_attn.q_proj", "FP8", q_proj), mixed_linear("self_attn.k_proj", "FP8", k_proj),
       mixed_linear("self_attn.v_proj", "FP8", v_proj),
       mixed_linear("self_attn.o_proj", "FP8_PER_CHANNEL_PER_TOKEN", o_proj),
       mixed_linear("mlp.gate_proj", "NVFP4", gate_proj), mixed_linear("mlp.up_proj", "NVFP4", up_proj),
       mixed_linear("mlp.down_proj", "W4A16_NVFP4", down_proj)},
      {mixed_linear("self_attn.o_proj", "W4A16_AWQ", o_proj),
       mixed_linear("mlp.gate_proj", "W4A8_AWQ", gate_proj), mixed_linear("mlp.up_proj", "W4A8_AWQ", up_proj),
       mixed_linear("mlp.down_proj", "NVFP4", down_proj)}};
  const auto golden = nlohmann::json::parse(
      read_text_file(test::fs::path(LATHE_SOURCE_DIR) / "tests/golden/floats/modelopt_mixed.json"));
  ASSERT_EQ(golden.size(), models.size());
  for (size_t i = 0; i < models.size(); ++i) {
    const nlohmann::json config = find_target("modelopt").quantization_config(models[i], {"lm_head"});
    EXPECT_EQ(config, golden[i].at("config.json/quantization_config"));
    EXPECT_EQ(find_target("modelopt").side_files(config).front().second,
              golden[i].at("hf_quant_config.json"));
    for (const auto& [form, content] : golden[i].items()) {
      const ModeloptConfig parsed = parse_modelopt_config(content, "file");
      for (const PlannedLinear& linear : models[i]) {
        ASSERT_NE(parsed.grid_of(linear.name), nullptr) << form << linear.name;
        EXPECT_EQ(parsed.grid_of(linear.name)->scheme, linear.scheme);
        EXPECT_EQ(parsed.grid_of(linear.name)->activations, linear.activations);
      }
      EXPECT_EQ(parsed.grid_of("model.layers.1.mlp.down_proj"), nullptr);
      EXPECT_EQ(parsed.grid_of("lm_head"), nullptr);
    }
  }
}

TEST(FloatTargets, WhoReadsMixedAlgorithms) {
  using enum LinearRole;
  const Target& target = find_target("modelopt");
  const PlannedLinear fp8 = mixed_linear("self_attn.o_proj", "FP8", o_proj),
                      blocks = mixed_linear("mlp.up_proj", "fp8_pb_wo", up_proj),
                      awq = mixed_linear("mlp.down_proj", "W4A16_AWQ", down_proj);
  EXPECT_TRUE(target.warnings({fp8, mixed_linear("mlp.down_proj", "NVFP4", down_proj)}, {}).empty());
  EXPECT_THAT(target.warnings({fp8, awq}, {}), testing::ElementsAre(HasSubstr("vLLM (0.32) won't load it")));
  EXPECT_THAT(target.warnings({fp8, blocks}, {}),
              testing::ElementsAre(HasSubstr("TensorRT-LLM won't load it")));
  EXPECT_TRUE(target.warnings({blocks}, {}).empty());
  EXPECT_EQ(target.refuses_model({fp8, awq}, {}), std::nullopt);
  EXPECT_THAT(target.refuses_model({fp8, blocks, awq}, {}).value_or(""), HasSubstr("no consumer loads both"));
}

TEST(FloatTargets, MixedModelsAreReadBack) {
  Artefact artefact(wide_config());
  artefact.format = "modelopt";
  artefact.scale_dtype = DType::F32;
  const auto attention = [](const Linear& linear) {
    return linear.name.find("self_attn") != std::string::npos;
  };
  const Case first{"modelopt", kTensor, fp8(false, Per::tensor), ""},
      second{"modelopt", kNvfp4, ActivationScheme::of_floats("nvfp4"), ""};
  artefact.pack(
      [&](const Linear& linear) -> std::optional<Scheme> {
        if (linear.role == LinearRole::down_proj) return std::nullopt;
        return attention(linear) ? kTensor : kNvfp4;
      },
      [&](const Linear& linear) { return quantizer(attention(linear) ? first : second); });
  EXPECT_EQ(artefact.config.at("quantization_config").at("quant_algo"), "MIXED_PRECISION");
  const auto side = find_target("modelopt").side_files(artefact.config.at("quantization_config")).front();
  for (const bool older : {false, true}) {
    const TemporaryFolder folder;
    if (older) artefact.config.erase("quantization_config");
    artefact.write(folder.path());
    if (older) write_file(folder.path() / side.first, side.second.dump());
    const ModelFolder opened = open_model_folder(folder.path());
    ASSERT_EQ(opened.schemes.size(), 12u);
    for (const auto& [name, expected] : artefact.quantized) {
      const QuantizedTensor read = opened.read_quantized(name);
      EXPECT_EQ(read.scheme, expected.scheme) << name;
      EXPECT_EQ(read.input->scheme, expected.input->scheme) << name;
      EXPECT_EQ(opened.activations.at(name), expected.input->scheme) << name;
      EXPECT_TRUE(read.dequantize().equal(expected.dequantize())) << name;
    }
  }
}

TEST(FloatTargets, CompressedTensorsPresetsAreRead) {
  // config_groups of compressed-tensors 0.20's presets.
  const auto presets = nlohmann::json::parse(read_text_file(
      test::fs::path(LATHE_SOURCE_DIR) / "tests/golden/floats/compressed_tensors_configs.json"));
  std::map<std::string, std::pair<Scheme, std::optional<ActivationScheme>>> expected = {
      {"FP8", {kTensor, fp8(false, Per::tensor)}},
      {"FP8_DYNAMIC", {kChannel, fp8(true, Per::token)}},
      {"FP8_BLOCK", {kBlocks, fp8(true, Per::group)}},
      {"NVFP4", {kNvfp4, ActivationScheme::of_floats("nvfp4")}},
      {"NVFP4A16", {kNvfp4, std::nullopt}},
      {"MXFP4", {kMxfp4, ActivationScheme::of_floats("mxfp4")}},
      {"MXFP4A16", {kMxfp4, std::nullopt}},
      {"MXFP8", {kMxfp8, ActivationScheme::of_floats("mxfp8")}}};
  ASSERT_EQ(presets.size(), expected.size());
  for (const auto& [name, config] : presets.items()) {
    SCOPED_TRACE(name);
    const CompressedTensorsConfig parsed = parse_compressed_tensors_config(config, "config.json");
    ASSERT_EQ(parsed.groups.size(), 1u);
    EXPECT_EQ(parsed.groups[0].scheme, expected.at(name).first);
    EXPECT_EQ(parsed.groups[0].activations, expected.at(name).second);
  }
}

TEST(FloatTargets, Refusals) {
  const auto refusal = [](const char* format, const Scheme& scheme,
                          std::optional<ActivationScheme> activations = {}, int64_t out = 128,
                          int64_t in = 256) {
    PlannedLinear planned{"model.layers.0.mlp.down_proj", out, in, scheme, DType::F16, LinearRole::down_proj};
    planned.activations = activations;
    return find_target(format).refuses(planned).value_or("");
  };
  const auto integers = ActivationScheme{};
  EXPECT_THAT(refusal("compressed-tensors", kChannel, integers),
              HasSubstr("engines take fp8_e4m3 dynamic per token"));
  EXPECT_THAT(refusal("compressed-tensors", kBlocks), HasSubstr("without `activations`"));
  EXPECT_THAT(refusal("compressed-tensors", Scheme::of_floats("fp8_e5m2")),
              HasSubstr("fp8_e5m2 channel can't be stored"));
  for (const char* format : {"compressed-tensors", "modelopt"})
    EXPECT_THAT(refusal(format, Scheme::of_floats("mxfp6_e3m2")),
                HasSubstr("mxfp6_e3m2 g32 can't be stored"));
  EXPECT_THAT(refusal("compressed-tensors", kNvfp4, std::nullopt, 8, 40), HasSubstr("do not divide the 40"));
  EXPECT_THAT(refusal("compressed-tensors", Scheme{.bits = 8, .group_size = -1}, fp8(true, Per::token)),
              HasSubstr("weights int8 sym channel can't be multiplied with activations fp8_e4m3"));
  EXPECT_THAT(refusal("modelopt", kMxfp4), HasSubstr("mxfp4 g32 can't be stored"));
  EXPECT_THAT(refusal("modelopt", kTensor, fp8(true, Per::token)),
              HasSubstr("per tensor with static activations"));
  EXPECT_THAT(refusal("modelopt", kInt4, std::nullopt, 9), HasSubstr("two rows share a byte"));
  EXPECT_THAT(refusal("modelopt", Scheme{.bits = 4, .group_size = 32}),
              HasSubstr("group_size 32: TensorRT-LLM's kernels for int4 take groups of 64 and 128"));
  EXPECT_THAT(refusal("modelopt", kInt4, fp8(false, Per::tensor)),
              HasSubstr("int4 sym g64, input fp8_e4m3 static per tensor can't be stored"));
  for (const char* format : {"gptq", "gptq-v2", "awq", "hqq", "spqr"})
    EXPECT_NE(refusal(format, kNvfp4), "") << format;

  PlannedLinear router{"model.layers.0.mlp.gate", 8, 256, kNvfp4, DType::F16, LinearRole::router};
  EXPECT_THAT(find_target("modelopt").refuses(router).value_or(""),
              HasSubstr("no consumer reads a quantised"));
  EXPECT_THAT(find_target("compressed-tensors").refuses(router).value_or(""), HasSubstr("add"));
}

TEST(FloatTargets, ModeloptsNamesDontHideOthers) {
  const PlannedLinear down{"model.layers.0.mlp.down_proj", 128, 256, kChannel, DType::F16,
                           LinearRole::down_proj};
  const Target& target = find_target("modelopt");
  PlannedLinear gate{"model.layers.0.mlp.gate_proj", 128, 256, kNvfp4, DType::F16, LinearRole::gate_proj};
  EXPECT_THAT(target.refuses_model({gate}, {"model.layers.0.mlp.gate"}).value_or(""), HasSubstr("a part of"));
  EXPECT_EQ(target.refuses_model({gate}, {"lm_head", "model.layers.0.mlp.down_proj"}), std::nullopt);
  EXPECT_EQ(target.refuses_model({gate}, {"model.layers.10.mlp.gate"}), std::nullopt);
  PlannedLinear int4 = down;
  int4.scheme = kInt4;
  EXPECT_THAT(target.warnings({int4}, {}).front(), HasSubstr("vLLM (0.32) won't load it"));
  EXPECT_TRUE(target.warnings({gate}, {}).empty());
}

TEST(FloatTargets, WildcardsAreFnmatchs) {
  EXPECT_TRUE(wildcard_match("model.layers.3*", "model.layers.31.mlp"));
  EXPECT_TRUE(wildcard_match("*.mlp.*", "model.layers.3.mlp.up_proj"));
  EXPECT_TRUE(wildcard_match("lm_hea?", "lm_head"));
  EXPECT_TRUE(wildcard_match("a*b*c", "aXbXbc"));
  EXPECT_FALSE(wildcard_match("model.layers.3", "model.layers.31"));
  EXPECT_FALSE(wildcard_match("*.mlp", "model.mlp.up"));
  EXPECT_FALSE(wildcard_match("", "x"));
}

TEST(FloatTargets, Int4CodesArePairsOfRows) {
  const at::Tensor codes = at::tensor({-8, -1, 7, 0, 3, -4, 1, -7}, at::kChar).view({4, 2});
  const at::Tensor bytes = pack_row_pairs(codes);
  ASSERT_EQ(bytes.sizes(), (std::vector<int64_t>{2, 2}));
  EXPECT_EQ(bytes[0][0].item<int>(), 0x78);  // rows 0 and 1: -8 below, 7 above
  EXPECT_EQ(bytes[0][1].item<int>(), 0x0f);
  EXPECT_TRUE(unpack_row_pairs(bytes).equal(codes));
}

TEST(FloatTargets, W4a8sRangeIsTheLargestWeightOverE4m3s) {
  const Case test{"modelopt", kInt4Wide, fp8(false, Per::tensor), ""};
  const Artefact artefact = artefact_of(test);
  for (const auto& [name, tensor] : artefact.quantized) {
    const at::Tensor largest = tensor.dequantize().abs().max();
    EXPECT_EQ(artefact.tensors.at(name + ".weight_scale_2").item<float>(), (largest / 448).item<float>())
        << name;
  }
  EXPECT_THAT(find_target("modelopt")
                  .warnings({{"a", 128, 256, kInt4Wide, DType::F16, LinearRole::down_proj, false, false,
                              false, 0, test.activations}},
                            {}),
              testing::ElementsAre(HasSubstr("it reads no W4A8_AWQ")));
}

TEST(FloatTargets, OlderArtefactsHaveModeloptsOwnFileAlone) {
  for (const Case& test :
       {Case{"modelopt", kTensor, fp8(false, Per::tensor), ""}, Case{"modelopt", kInt4, std::nullopt, ""}}) {
    SCOPED_TRACE(test.scheme.describe());
    Artefact artefact = artefact_of(test);
    const auto& config = artefact.config.at("quantization_config");
    const auto side = find_target("modelopt").side_files(config).front();
    for (const bool today : {false, true}) {
      const TemporaryFolder folder;
      if (today) {
        artefact.config["quantization_config"].erase("group_size");  // as modelopt writes it
      } else {
        artefact.config.erase("quantization_config");
      }
      artefact.write(folder.path());
      write_file(folder.path() / side.first, side.second.dump());
      const ModelFolder opened = open_model_folder(folder.path());
      ASSERT_EQ(opened.schemes.size(), 14u) << today;
      for (const auto& [name, expected] : artefact.quantized)
        EXPECT_TRUE(opened.read_quantized(name).dequantize().equal(expected.dequantize())) << name;
      artefact = artefact_of(test);
    }
    artefact.config.erase("quantization_config");
    const TemporaryFolder folder;
    artefact.write(folder.path());
    auto broken = side.second;
    broken["quantization"]["quant_algo"] = "FP9";
    write_file(folder.path() / side.first, broken.dump());
    try {
      open_model_folder(folder.path());
      ADD_FAILURE() << "an unknown algorithm was read";
    } catch (const UserError& error) {
      EXPECT_THAT(error.what(),
                  HasSubstr("hf_quant_config.json: quantization.quant_algo: expected one of FP8"));
    }
  }
}

TEST(FloatTargets, DamagedArtefactsAreRefused) {
  const std::string linear = "model.layers.1.mlp.down_proj";  // [128, 256]
  const auto nvfp4 = ActivationScheme::of_floats("nvfp4");
  const Case ct{"compressed-tensors", kNvfp4, nvfp4, ""}, mo{"modelopt", kNvfp4, nvfp4, ""},
      channel{"modelopt", kChannel, fp8(true, Per::token), ""},
      fixed{"compressed-tensors", kTensor, fp8(false, Per::tensor), ""},
      mx{"compressed-tensors", kMxfp4, std::nullopt, ""}, int4{"modelopt", kInt4, std::nullopt, ""},
      w4a8{"modelopt", kInt4Wide, fp8(false, Per::tensor), ""};
  struct Corruption {
    const Case& test;
    std::function<void(Artefact&)> apply;
    std::string message;
  };
  const auto put = [&](const char* suffix, const at::Tensor& tensor) {
    return [=](Artefact& a) { a.tensors[linear + suffix] = tensor; };
  };
  const auto erase = [&](const char* suffix) {
    return [=](Artefact& a) { a.tensors.erase(linear + suffix); };
  };
  const auto set = [](const char* place, nlohmann::json value) {
    return [=](Artefact& a) { a.config["quantization_config"][nlohmann::json::json_pointer(place)] = value; };
  };
  const auto spoil = [&](const char* suffix, uint8_t byte) {
    return [=](Artefact& a) {
      at::Tensor& tensor = a.tensors[linear + suffix];
      tensor = tensor.clone();
      tensor.view(at::kByte).view({-1})[5] = byte;
    };
  };
  const std::vector<Corruption> table = {
      {ct, erase(".weight_scale"), "down_proj.weight_scale' is missing"},
      {ct, erase(".weight_global_scale"), "down_proj.weight_global_scale' is missing"},
      {ct, erase(".input_global_scale"), "down_proj.input_global_scale' is missing"},
      {ct, put(".weight_global_scale", at::zeros({1})), "expected a positive number"},
      {ct, put(".weight_global_scale", at::full({1}, INFINITY)), "infinite"},
      {ct, put(".weight_global_scale", at::full({1}, 1e-40f)), "reciprocal"},
      {ct, put(".input_global_scale", at::full({1}, -2.f)), "expected a positive number"},
      {ct, spoil(".weight_scale", 0x7f), "weight_scale': the scale at [0, 5] is nan"},
      {ct, spoil(".weight_scale", 0x00), "weight_scale': the scale at [0, 5] is 0"},
      {ct, spoil(".weight_scale", 0x90), "expected a positive number"},
      {ct, put(".weight_packed", at::zeros({128, 127}, at::kByte)),
       "expected U8 [128, 128], found U8 [128, 127]"},
      {ct, put(".weight_scale", at::ones({128, 16}, at::kHalf)), "expected F8_E4M3 [128, 16]"},
      {ct, put(".weight_shape", at::zeros({2}, at::kLong)), "weight_shape': not expected"},
      {ct, set("/config_groups/group_0/weights/group_size", 32),
       "floating-point weights with strategy tensor_group of 32"},
      {ct, set("/config_groups/group_0/format", "float-quantized"), "format"},
      {ct, set("/format", "float-quantized"), "float-quantized"},
      {ct, set("/config_groups/group_0/input_activations/dynamic", false), "floating-point activations"},
      {ct, set("/config_groups/group_0/weights/symmetric", false), "weights.symmetric: expected true"},
      {ct, set("/config_groups/group_0/weights/type", "floot"), "weights.type"},
      {fixed, spoil(".weight", 0xff), "weight': the value at [0, 5] is NaN"},
      {fixed, put(".input_scale", at::zeros({1}, at::kHalf)), "expected a positive number"},
      {fixed, put(".weight_scale", at::ones({128, 1}, at::kHalf)), "expected F16 [1]"},
      {fixed, put(".weight", at::zeros({128, 256}, at::kChar)), "expected F8_E4M3 [128, 256], found I8"},
      {mx, spoil(".weight_scale", 0xff), "the scale at [0, 5] is NaN: expected a power of two"},
      {mx, set("/config_groups/group_0/weights/scale_dtype", "torch.bfloat16"), "scale_dtype"},
      {mo, erase(".weight_scale_2"), "down_proj.weight_scale_2' is missing"},
      {mo, erase(".input_scale"), "down_proj.input_scale' is missing"},
      {mo, erase(".weight_scale"), "down_proj.weight_scale' is missing"},
      {mo, put(".weight_scale_2", at::zeros({})), "expected a positive number"},
      {mo, spoil(".weight_scale", 0x7f), "is nan: expected a positive number"},
      {mo, put(".weight_scale", at::ones({128, 8}, at::kFloat8_e4m3fn)), "expected F8_E4M3 [128, 16]"},
      {mo, put(".weight_scale_2", at::ones({2})), "expected F32 [], found F32 [2]"},
      {mo, put(".lora", at::zeros({2})), "lora': not expected"},
      {mo, set("/quant_algo", "NVFP5"), "quant_algo: expected one of FP8, "},
      {mo, set("/quant_algo", 3), "quant_algo: expected"},
      {mo, set("/group_size", 32), "group_size: expected 16"},
      {mo, set("/kv_cache_scheme", {{"type", "float"}}), "kv_cache_scheme: expected {"},
      {mo, set("/kv_cache_scheme", {{"type", "float"}, {"num_bits", 8}, {"dynamic", false}}),
       "self_attn.k_proj.k_scale' is missing"},
      {mo, set("/ignore", {"lm_head", "model.layers.1.mlp.*"}), "leaves 'model.layers.1.mlp"},
      {channel, put(".weight_scale", at::ones({127})), "expected F32 [128], found F32 [127]"},
      {channel, spoil(".weight", 0x7f), "is NaN"},
      {channel, put(".input_scale", at::ones({})), "input_scale': not expected"},
      {int4, put(".pre_quant_scale", at::full({256}, 2, at::kHalf)), "the factor at [0] is not 1"},
      {w4a8, erase(".weight_scale_2"), "down_proj.weight_scale_2' is missing"},
      {w4a8, put(".weight_scale_2", at::zeros({})), "expected a positive number"},
      {w4a8, erase(".input_scale"), "down_proj.input_scale' is missing"},
      {int4, put(".weight_scale_2", at::ones({})), "weight_scale_2': not expected"},
      {int4, put(".weight", at::zeros({128, 256}, at::kByte)), "expected U8 [64, 256]"},
  };
  for (const Corruption& corruption : table) {
    SCOPED_TRACE(corruption.message);
    Artefact artefact = artefact_of(corruption.test);
    ASSERT_EQ(reading_error(artefact), "");
    corruption.apply(artefact);
    EXPECT_THAT(reading_error(artefact), HasSubstr(corruption.message));
  }
}

}  // namespace
}  // namespace lathe
