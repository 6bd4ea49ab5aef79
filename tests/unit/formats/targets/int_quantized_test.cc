// Integers beside quantised activations: the library's bytes, what is refused, and reading back.
#include "formats/targets/int_quantized.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/targets/model_folder.h"
#include "lib/base/error.h"
#include "lib/kernels/input_quant.h"
#include "tests/unit/formats/targets/artefact_fixture.h"

namespace lathe {
namespace {

using test::Artefact;
using test::TemporaryFolder;
using ::testing::HasSubstr;

const Target& target() { return find_target("compressed-tensors"); }

const Scheme kInt8{.type = "int", .bits = 8, .group_size = -1, .symmetric = true};
const Scheme kInt4{.type = "int", .bits = 4, .group_size = 8, .symmetric = true};
const ActivationScheme kFp8Token = ActivationScheme::of_floats("fp8_e4m3");
const ActivationScheme kToken{}, kTensor{"int", 8, false, ActivationScheme::Per::tensor, true},
    kTensorAsym{"int", 8, false, ActivationScheme::Per::tensor, false};

std::map<std::string, at::Tensor> golden(const std::string& name) {
  return test::read_safetensors(std::filesystem::path(LATHE_SOURCE_DIR) / "tests/golden/compressed_tensors" /
                                name);
}

PlannedLinear planned(const Scheme& scheme, const ActivationScheme& activations) {
  PlannedLinear linear{"m", 16, 40, scheme, DType::BF16};
  linear.activations = activations;
  return linear;
}

TEST(CompressedTensors, PacksTheSameInt8BytesAsTheLibrary) {
  const auto file = golden("w8a8.safetensors");
  const at::Tensor weight = file.at("in.weight"), scales = file.at("in.weight_scale");
  QuantizedTensor tensor{.scheme = kInt8,
                         .scale_dtype = DType::BF16,
                         .codes = (weight / scales).round().clamp(-128, 127).to(at::kChar),
                         .scales = scales.to(at::kFloat),
                         .zero_points = {}};
  tensor.input = InputQuantizer{kTensorAsym, file.at("in.input_scale").to(at::kFloat).item<float>(),
                                file.at("in.input_zero_point").item<int>()};
  const auto packed = target().pack("out", tensor);
  EXPECT_EQ(packed.size(), 4u);
  for (const auto& [name, bytes] : packed) {
    const at::Tensor& expected = file.at(name);
    EXPECT_EQ(bytes.scalar_type(), expected.scalar_type()) << name;
    EXPECT_TRUE(bytes.is_contiguous() && bytes.equal(expected)) << name;
  }
  size_t written = 0;
  for (const auto& [name, ignored] : file) written += name.starts_with("out.") ? 1 : 0;
  EXPECT_EQ(written, packed.size());
}

// Bit for bit, with ties, one-sided and all-zero tokens, huge and tiny ones.
TEST(CompressedTensors, RoundsActivationsAsTheLibrary) {
  const auto file = golden("int8_activations.safetensors");
  const at::Tensor& x = file.at("x");
  for (const bool symmetric : {true, false}) {
    const std::string name = symmetric ? "sym" : "asym";
    InputQuantizer token{.scheme = {.symmetric = symmetric}};
    EXPECT_TRUE(kernels::fake_quantize_input(x, token).equal(file.at("token." + name))) << name;
    InputQuantizer tensor{.scheme = symmetric ? kTensor : kTensorAsym,
                          .scale = file.at("tensor." + name + ".scale").item<float>(),
                          .zero_point = file.at("tensor." + name + ".zero").item<int>()};
    EXPECT_TRUE(kernels::fake_quantize_input(x, tensor).equal(file.at("tensor." + name))) << name;
  }
}

// Other tools' artefacts may have scales of two types.
TEST(IntQuantized, InputsScaleIsStoredAsTheWeightsOrRefused) {
  QuantizedTensor tensor{.scheme = kInt8,
                         .scale_dtype = DType::F16,
                         .codes = at::zeros({2, 32}, at::kChar),
                         .scales = at::ones({2, 1}),
                         .zero_points = {}};
  tensor.input = InputQuantizer{.scheme = kTensor, .scale = 0.25f};
  EXPECT_EQ(target().pack("m", tensor)[2].second.scalar_type(), at::kHalf);
  tensor.input->scale = 0.1f;
  try {
    target().pack("m", tensor);
    FAIL() << "0.1 is no half";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("m: the scale of its input, 0.1, is no F16 number"));
  }
}

TEST(IntQuantized, LayoutNamesWhatIsStored) {
  const auto names = [](const ActivationScheme& scheme) {
    std::string text;
    for (const PlannedTensor& tensor : target().layout(planned(kInt8, scheme)))
      text += tensor.name + " " + tensor.info.describe() + "; ";
    return text;
  };
  EXPECT_EQ(names(kToken), "m.weight I8 [16, 40]; m.weight_scale BF16 [16, 1]; ");
  EXPECT_EQ(names(kTensor), names(kToken) + "m.input_scale BF16 [1]; ");
  EXPECT_EQ(names(kTensorAsym), names(kTensor) + "m.input_zero_point I8 [1]; ");
}

TEST(IntQuantized, ConfigIsThatOfThePreset) {
  const auto config = target().quantization_config({planned(kInt8, kToken)}, {"lm_head"});
  EXPECT_EQ(config.at("format"), "int-quantized");
  EXPECT_EQ(config.at("config_groups"), nlohmann::json::parse(R"({
    "group_0": {"targets": ["Linear"], "format": "int-quantized", "output_activations": null,
      "input_activations": {"num_bits": 8, "type": "int", "symmetric": true, "strategy": "token", "dynamic": true},
      "weights": {"num_bits": 8, "type": "int", "symmetric": true, "strategy": "channel", "dynamic": false}}})"));
}

TEST(IntQuantized, BesidePackedLinearsTheFileIsOfMixedPrecision) {
  const Scheme four{.type = "int", .bits = 4, .group_size = 8, .symmetric = true};
  PlannedLinear packed{"p", 16, 40, four, DType::BF16};
  const auto config = target().quantization_config({planned(kInt8, kTensor), packed}, {});
  EXPECT_EQ(config.at("format"), "mixed-precision");
  EXPECT_EQ(config.at("config_groups").at("group_0").at("format"), "int-quantized");
  EXPECT_EQ(config.at("config_groups").at("group_1").at("format"), "pack-quantized");
}

// The presets W4A8 and W4AFP8 of compressed-tensors, the latter packed, as vLLM's CompressedTensorsW4A8Fp8
// takes it.
TEST(IntQuantized, Int4IsAByteBesideInt8InputsAndPackedBesideFp8) {
  const auto stored = [](const ActivationScheme& inputs) {
    std::string text;
    for (const PlannedTensor& tensor : target().layout(planned(kInt4, inputs)))
      text += tensor.name + " " + tensor.info.describe() + "; ";
    return text;
  };
  EXPECT_EQ(stored(kToken), "m.weight I8 [16, 40]; m.weight_scale BF16 [16, 5]; ");
  EXPECT_EQ(stored(kFp8Token),
            "m.weight_shape I64 [2]; m.weight_packed I32 [16, 5]; m.weight_scale BF16 [16, 5]; ");
  const nlohmann::json weights = nlohmann::json::parse(
      R"({"num_bits": 4, "type": "int", "symmetric": true, "strategy": "group", "group_size": 8, "dynamic": false})");
  for (const bool floats : {false, true}) {
    const auto config =
        target().quantization_config({planned(kInt4, floats ? kFp8Token : kToken)}, {"lm_head"});
    EXPECT_EQ(config.at("format"), floats ? "pack-quantized" : "int-quantized");
    const auto& group = config.at("config_groups").at("group_0");
    EXPECT_EQ(group.at("format"), config.at("format"));
    EXPECT_EQ(group.at("weights"), weights);
    EXPECT_EQ(group.at("input_activations").at("type"), floats ? "float" : "int");
    EXPECT_EQ(group.at("input_activations").at("strategy"), "token");
    EXPECT_EQ(group.at("input_activations").at("dynamic"), true);
  }
}

TEST(IntQuantized, Refusals) {
  for (const ActivationScheme& inputs : {kToken, ActivationScheme{.symmetric = false}, kTensorAsym})
    EXPECT_EQ(target().refuses(planned(kInt8, inputs)), std::nullopt);
  Scheme rows = kInt4;
  rows.group_size = -1;
  for (const Scheme& scheme : {kInt4, rows})
    for (const ActivationScheme& inputs : {kToken, ActivationScheme{.symmetric = false}, kFp8Token})
      EXPECT_EQ(target().refuses(planned(scheme, inputs)), std::nullopt);
  const ActivationScheme fp8_tensor{"fp8_e4m3", 8, false, ActivationScheme::Per::tensor, true};
  const std::vector<std::pair<Scheme, ActivationScheme>> refused = {
      {{.type = "int", .bits = 5, .group_size = -1, .symmetric = true}, kToken},
      {{.type = "int", .bits = 8, .group_size = 8, .symmetric = true}, kToken},
      {{.type = "int", .bits = 8, .group_size = -1, .symmetric = false}, kToken},
      {{.type = "int", .bits = 4, .group_size = 8, .symmetric = false}, kToken},
      {{.type = "int", .bits = 4, .group_size = 8, .symmetric = false}, kFp8Token},
      {kInt4, kTensor},
      {kInt4, fp8_tensor},
      {kInt4, ActivationScheme::of_floats("mxfp8")},
      {kInt8, kFp8Token}};
  for (const auto& [scheme, inputs] : refused) {
    EXPECT_THAT(target().refuses(planned(scheme, inputs)).value_or(""),
                HasSubstr("weights " + scheme.describe() + " can't be multiplied with activations " +
                          inputs.describe()));
  }
  PlannedLinear expert = planned(kInt8, kTensor);
  expert.expert = true;
  EXPECT_THAT(target().refuses(expert).value_or(""), HasSubstr("experts with static activations"));
  expert.activations = kToken;
  EXPECT_EQ(target().refuses(expert), std::nullopt);
  const ActivationScheme dynamic_tensor{"int", 8, true, ActivationScheme::Per::tensor, true};
  EXPECT_THAT(target().refuses(planned(kInt8, dynamic_tensor)).value_or(""), HasSubstr("use per: token"));
  Scheme wide = kInt4;
  wide.group_size = 64;
  EXPECT_THAT(target().refuses(planned(wide, kToken)).value_or(""), HasSubstr("does not divide the 40"));
}

InputQuantizer quantizer(const ActivationScheme& scheme) {
  return {scheme, scheme.dynamic ? 0.0f : 0.03125f, scheme.symmetric || scheme.dynamic ? 0 : -7};
}

Artefact artefact_of(const Scheme& weights, const ActivationScheme& inputs) {
  Artefact artefact;
  artefact.pack([&](const Linear&) { return weights; }, [&](const Linear&) { return quantizer(inputs); });
  return artefact;
}

Artefact int8_artefact(const ActivationScheme& scheme) { return artefact_of(kInt8, scheme); }

void expect_read_back(const Scheme& weights, const ActivationScheme& inputs) {
  SCOPED_TRACE(with_input(weights.describe(), inputs));
  const Artefact artefact = artefact_of(weights, inputs);
  const TemporaryFolder folder;
  artefact.write(folder.path());
  const ModelFolder opened = open_model_folder(folder.path());
  ASSERT_EQ(opened.schemes.size(), 14u);
  for (const auto& [name, expected] : artefact.quantized) {
    EXPECT_EQ(opened.schemes.at(name), weights);
    EXPECT_EQ(opened.activations.at(name), inputs);
    const QuantizedTensor read = opened.read_quantized(name);
    EXPECT_TRUE(read.codes.equal(expected.codes));
    EXPECT_TRUE(read.scales.equal(expected.scales));
    EXPECT_TRUE(opened.weights->load(name + ".weight").equal(expected.dequantize()));
    const auto input = opened.weights->input_quantizer(name);
    ASSERT_TRUE(input && read.input);
    EXPECT_EQ(input->scheme, inputs);
    EXPECT_EQ(input->scale, quantizer(inputs).scale);
    EXPECT_EQ(input->zero_point, quantizer(inputs).zero_point);
  }
  EXPECT_FALSE(opened.weights->input_quantizer("lm_head"));
}

TEST(IntQuantized, ArtefactReadsBackCodesAndInputGrids) {
  for (const ActivationScheme& scheme : {kToken, ActivationScheme{.symmetric = false}, kTensor, kTensorAsym})
    expect_read_back(kInt8, scheme);
  for (const int64_t group : {-1, 32})
    for (const ActivationScheme& scheme : {kToken, ActivationScheme{.symmetric = false}, kFp8Token})
      expect_read_back({.type = "int", .bits = 4, .group_size = group, .symmetric = true}, scheme);
}

TEST(IntQuantized, AMixOfBothFormatsReadsBack) {
  const Scheme four{.type = "int", .bits = 4, .group_size = 32, .symmetric = false};
  Artefact artefact;
  const auto is_down = [](const Linear& linear) { return linear.role == LinearRole::down_proj; };
  artefact.pack([&](const Linear& linear) { return is_down(linear) ? four : kInt8; },
                [&](const Linear& linear) {
                  return is_down(linear) ? std::nullopt : std::optional(quantizer(kTensor));
                });
  const TemporaryFolder folder;
  artefact.write(folder.path());
  const ModelFolder opened = open_model_folder(folder.path());
  EXPECT_EQ(opened.schemes.at("model.layers.1.mlp.down_proj"), four);
  EXPECT_FALSE(opened.activations.contains("model.layers.1.mlp.down_proj"));
  EXPECT_EQ(opened.activations.size(), 12u);
}

TEST(IntQuantized, DamagedArtefactsAreRefused) {
  const std::string linear = "model.layers.1.mlp.up_proj";
  struct Corruption {
    const char* name;
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
    return [=](Artefact& a) {
      a.config["quantization_config"]["config_groups"]["group_0"][nlohmann::json::json_pointer(place)] =
          value;
    };
  };
  const std::vector<Corruption> table = {
      {"no weight", erase(".weight"), "up_proj.weight' is missing"},
      {"float weight", put(".weight", at::ones({96, 64}, at::kHalf)),
       "up_proj.weight': expected I8 [96, 64]"},
      {"weight shape", put(".weight", at::ones({96, 63}, at::kChar)),
       "expected I8 [96, 64], found I8 [96, 63]"},
      {"no scale", erase(".weight_scale"), "up_proj.weight_scale' is missing"},
      {"grouped scale", put(".weight_scale", at::ones({96, 2}, at::kHalf)), "expected F16 [96, 1]"},
      {"no input scale", erase(".input_scale"), "up_proj.input_scale' is missing"},
      {"input scale shape", put(".input_scale", at::ones({64}, at::kHalf)), "input_scale': expected F16 [1]"},
      {"negative input scale", put(".input_scale", at::full({1}, -1, at::kHalf)),
       "expected a positive number"},
      {"infinite input scale", put(".input_scale", at::full({1}, INFINITY, at::kHalf)), "infinite"},
      {"no zero point", erase(".input_zero_point"), "input_zero_point' is missing"},
      {"zero point dtype", put(".input_zero_point", at::zeros({1}, at::kInt)), "expected I8 [1]"},
      {"unknown tensor", put(".weight_shape", at::zeros({2}, at::kLong)), "weight_shape': not expected"},
      {"bits", set("/input_activations/num_bits", 4), "input_activations.num_bits: expected 8, found '4'"},
      {"static per token", set("/input_activations/strategy", "token"), "static activations per token"},
      {"per channel", set("/input_activations/strategy", "channel"), "strategy: expected token or tensor"},
      {"dynamic per tensor", set("/input_activations/dynamic", true), "dynamic activations per tensor"},
      {"unknown key", set("/input_activations/extra", 1), "input_activations: unknown key 'extra'"},
      {"no activations", set("/input_activations", nullptr), "input_activations: expected an object"},
      {"weights of four bits", set("/weights/num_bits", 4), ": expected -8 to 7"},
      {"format", set("/format", "pack-quantized"), "group_0.format: expected int-quantized"},
      {"mixed without a format of its own",
       [](Artefact& a) {
         a.config["quantization_config"]["format"] = "mixed-precision";
         a.config["quantization_config"]["config_groups"]["group_0"].erase("format");
       },
       "missing key 'format'"},
  };
  EXPECT_EQ(reading_error(int8_artefact(kTensorAsym)), "");
  for (const Corruption& corruption : table) {
    SCOPED_TRACE(corruption.name);
    Artefact artefact = int8_artefact(kTensorAsym);
    corruption.apply(artefact);
    EXPECT_THAT(reading_error(artefact), HasSubstr(corruption.message));
  }
}

TEST(IntQuantized, ASymmetricGridHasNoZeroPoint) {
  Artefact artefact = int8_artefact(kTensor);
  artefact.tensors["model.layers.0.mlp.up_proj.input_zero_point"] = at::zeros({1}, at::kChar);
  EXPECT_THAT(reading_error(artefact), HasSubstr("input_zero_point': not expected"));
}

}  // namespace
}  // namespace lathe
