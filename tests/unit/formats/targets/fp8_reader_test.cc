// quant_method "fp8" is read as it says, FP8 folders of three formats are models that a run starts from, and
// what is damaged is refused in one line.
#include "formats/targets/fp8_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "formats/targets/dequantised_folder.h"
#include "formats/targets/float_codes.h"
#include "formats/targets/packed_reader.h"
#include "lib/numeric/float_format.h"
#include "tests/unit/formats/fixtures/fixture_model.h"

namespace lathe {
namespace {

using test::Artefact;
using test::Json;
using test::kModule;
using test::read_stored;
using test::refusal_of;
using test::TemporaryFolder;
using test::Tensors;
using ::testing::HasSubstr;
using Per = ActivationScheme::Per;

constexpr int64_t kOut = 70, kIn = 96;

/// Every code of E4M3 but its two NaNs.
at::Tensor all_codes(int64_t out, int64_t in) {
  at::Tensor codes = at::arange(out * in, at::kInt).mul_(37).remainder_(256).view({out, in});
  codes.masked_fill_(codes.bitwise_and(0x7f).eq(0x7f), 3);
  return codes.to(at::kByte).view(at::kFloat8_e4m3fn);
}

at::Tensor some_scales(at::IntArrayRef shape) {
  return at::arange(1, 1 + c10::multiply_integers(shape), at::kFloat).mul_(0.0123f).view(shape);
}

Json blocks(int64_t rows, int64_t columns) {
  return {{"quant_method", "fp8"},
          {"activation_scheme", "dynamic"},
          {"fmt", "e4m3"},
          {"weight_block_size", {rows, columns}}};
}
Json per_tensor(const char* activations) {
  return {{"quant_method", "fp8"}, {"activation_scheme", activations}};
}

/// number(code) * scale of its block, one by one.
at::Tensor by_hand(const at::Tensor& codes, const at::Tensor& scales, int64_t rows, int64_t columns) {
  const at::Tensor bits = codes.view(at::kByte), wide = scales.to(at::kFloat);
  at::Tensor values = at::empty(codes.sizes(), at::kFloat);
  for (int64_t o = 0; o < codes.size(0); ++o)
    for (int64_t i = 0; i < codes.size(1); ++i)
      values[o][i] = static_cast<float>(decode_float(kE4M3, bits[o][i].item<uint8_t>())) *
                     wide[o / rows][i / columns].item<float>();
  return values;
}

TEST(Fp8Reader, BlocksWithRaggedEdges) {
  const at::Tensor codes = all_codes(kOut, kIn);
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{32, 32}, {64, 36}, {128, 128}, {1, 96}}) {
    const at::Tensor scales = some_scales({(kOut + rows - 1) / rows, (kIn + columns - 1) / columns});
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
      const at::Tensor stored = scales.to(type);
      const QuantizedTensor found =
          read_stored(kOut, kIn, blocks(rows, columns), {{"weight", codes}, {"weight_scale_inv", stored}});
      EXPECT_TRUE(found.dequantize().equal(by_hand(codes, stored, rows, columns))) << rows << "x" << columns;
      EXPECT_EQ(found.scale_dtype, to_dtype(type));
      EXPECT_EQ(found.input.has_value(), kIn % columns == 0);
      if (found.input) {
        EXPECT_EQ(found.input->scheme.describe(), fmt::format("fp8_e4m3 dynamic per group of {}", columns));
      }
    }
  }
}

TEST(Fp8Reader, ScalesAsPowersOfTwo) {
  const at::Tensor codes = all_codes(kOut, kIn),
                   stored = at::tensor({120, 127, 0, 1, 130, 126, 125, 124, 123}, at::kByte).view({3, 3});
  const QuantizedTensor found = read_stored(
      kOut, kIn, blocks(32, 32), {{"weight", codes}, {"weight_scale_inv", stored.view(at::kFloat8_e8m0fnu)}});
  at::Tensor scales = at::empty({3, 3});
  for (int64_t k = 0; k < 9; ++k)
    scales.view(-1)[k] = static_cast<float>(std::ldexp(1.0, stored.view(-1)[k].item<int>() - 127));
  EXPECT_TRUE(found.dequantize().equal(by_hand(codes, scales, 32, 32)));
}

TEST(Fp8Reader, OneScaleForTheTensor) {
  const at::Tensor codes = all_codes(kOut, kIn), scale = at::scalar_tensor(0.37f),
                   input = at::full({1}, 0.25f).to(at::kBFloat16);
  const at::Tensor values = by_hand(codes, scale.view({1, 1}), kOut, kIn);
  for (const char* name : {"weight_scale", "weight_scale_inv"}) {
    const QuantizedTensor found =
        read_stored(kOut, kIn, per_tensor("dynamic"), {{"weight", codes}, {name, scale.view({1})}});
    EXPECT_TRUE(found.dequantize().equal(values));
    EXPECT_EQ(found.input->scheme.describe(), "fp8_e4m3 dynamic per token");
  }
  for (const char* name : {"input_scale", "activation_scale", "act_scale"}) {
    const QuantizedTensor found = read_stored(kOut, kIn, per_tensor("static"),
                                              {{"weight", codes}, {"weight_scale", scale}, {name, input}});
    EXPECT_TRUE(found.dequantize().equal(values));
    EXPECT_EQ(found.input->scheme.describe(), "fp8_e4m3 static per tensor");
    EXPECT_EQ(found.input->scale, 0.25f);
  }
}

struct Refusal {
  const char* what;
  std::function<void(Json& config, Tensors& tensors)> damage;
  const char* text;
};

void expect_refusals(const Json& config, const Tensors& tensors, const std::vector<Refusal>& table) {
  ASSERT_EQ(refusal_of(kOut, kIn, config, tensors), "");
  for (const Refusal& row : table) {
    Json changed = config;
    Tensors damaged = tensors;
    row.damage(changed, damaged);
    const std::string found = refusal_of(kOut, kIn, changed, damaged);
    EXPECT_THAT(found, HasSubstr(row.text)) << row.what;
    EXPECT_EQ(found.find('\n'), std::string::npos) << row.what;
  }
}

Refusal key(const char* name, Json value, const char* text) {
  return {name, [=](Json& config, Tensors&) { config[name] = value; }, text};
}
Refusal gone(const char* name, const char* text) {
  return {name, [=](Json&, Tensors& tensors) { tensors.erase(name); }, text};
}
Refusal stored(const char* name, const at::Tensor& tensor, const char* text) {
  return {name, [=](Json&, Tensors& tensors) { tensors[name] = tensor; }, text};
}

/// The scales with one of them changed.
at::Tensor with(const at::Tensor& scales, float value) {
  at::Tensor changed = scales.clone();
  changed.view(-1)[1] = value;
  return changed;
}

TEST(Fp8Reader, RefusesBlocks) {
  const at::Tensor codes = all_codes(kOut, kIn), scales = some_scales({3, 3});
  at::Tensor nan = codes.view(at::kByte).clone();
  nan[2][5] = 0x7f;
  constexpr const char* kSizes =
      "weight_block_size: expected two positive numbers, such as [128, 128], or null";
  expect_refusals(
      blocks(32, 32), {{"weight", codes}, {"weight_scale_inv", scales}},
      {key("weight_block_size", {0, 32}, kSizes),
       key("weight_block_size", {32, -1}, kSizes),
       key("weight_block_size", {32}, kSizes),
       key("weight_block_size", "32", kSizes),
       key("weight_block_size", {32.5, 32}, kSizes),
       key("weight_block_size", {16, 32}, "weight_scale_inv': expected F32 [5, 3], found F32 [3, 3]"),
       key("activation_scheme", "static", "activation_scheme: expected dynamic (no engine"),
       key("activation_scheme", "none", "activation_scheme: expected dynamic or static"),
       key("fmt", "e5m2", "fmt: expected e4m3"),
       key("modules_to_convert", {"embed_tokens"}, "modules_to_convert: expected null (FP8 embeddings"),
       key("modules_to_not_convert", {kModule}, "gate_proj.weight': is F8_E4M3, but"),
       key("modules_to_not_convert", {"model.layers.0"},
           "leaves 'model.layers.0.mlp.gate_proj' in floating point"),
       key("ignored_layers", {"gate_proj"}, "leaves 'model.layers.0.mlp.gate_proj' in floating point"),
       key("weight_size", 3, "unknown key 'weight_size'"),
       gone("weight_scale_inv", "gate_proj.weight_scale_inv' is missing: expected F32 [3, 3]"),
       gone("weight", "gate_proj.weight"),
       stored("weight_scale_inv", scales.view({9}), "expected F32 [3, 3], found F32 [9]"),
       stored("weight_scale_inv", scales.to(at::kDouble), "expected F32 [3, 3], found F64 [3, 3]"),
       stored("weight_scale_inv", with(scales, 0), "the scale at [0, 1] is 0: expected a positive number"),
       stored("weight_scale_inv", with(scales, -1), "the scale at [0, 1] is -1: expected a positive number"),
       stored("weight_scale_inv", with(scales, NAN), "the value at [0, 1] is NaN"),
       stored("weight_scale_inv", with(scales, INFINITY), "the value at [0, 1] is infinite"),
       stored("weight_scale_inv", at::full({3, 3}, 255, at::kByte).view(at::kFloat8_e8m0fnu),
              "the scale at [0, 0] is NaN: expected a power of two"),
       stored("weight", nan.view(at::kFloat8_e4m3fn), "gate_proj.weight': the value at [2, 5] is NaN"),
       stored("weight", all_codes(kOut, kIn - 1), "expected F8_E4M3 [70, 96], found F8_E4M3 [70, 95]"),
       stored(
           "weight", at::zeros({kOut, kIn}).to(at::kHalf),
           "gate_proj.weight_scale_inv': stands beside 'model.layers.0.mlp.gate_proj.weight', which is F16"),
       stored("input_scale", scales, "not expected beside a linear stored as fp8_e4m3 block 32x32")});
}

TEST(Fp8Reader, RefusesTensorsOfOneScale) {
  const at::Tensor codes = all_codes(kOut, kIn), one = at::full({1}, 0.5f);
  expect_refusals(per_tensor("static"), {{"weight", codes}, {"weight_scale", one}, {"input_scale", one}},
                  {gone("weight_scale", "gate_proj.weight_scale' is missing: expected F32 []"),
                   gone("input_scale", "gate_proj.input_scale' is missing: expected F32 []"),
                   stored("weight_scale", some_scales({2}), "expected F32 [], found F32 [2]"),
                   stored("input_scale", with(some_scales({2}), 1), "expected F32 [], found F32 [2]"),
                   stored("input_scale", at::zeros({1}), "the scale at [0] is 0"),
                   stored("weight_scale", at::full({1}, -0.5f), "the scale at [0] is -0.5"),
                   key("activation_scheme", "dynamic", "input_scale': not expected beside")});
}

TEST(Fp8Reader, ScalesBesideOtherWeights) {
  Artefact artefact = test::model_with_gate(kOut, kIn);
  artefact.config["quantization_config"] = blocks(32, 32);
  artefact.tensors["model.layers.0.self_attn.q_proj.weight_scale_inv"] = at::ones({3, 3});
  EXPECT_THAT(
      test::reading_error(artefact),
      HasSubstr("q_proj.weight_scale_inv': stands beside 'model.layers.0.self_attn.q_proj.weight', which is "
                "F16: expected an F8_E4M3 weight, or no scale"));
}

/// Folders whose every linear is FP8, with inputs that are rounded where an engine loads them.
Artefact fp8_artefact(const std::string& format) {
  Artefact artefact;
  artefact.format = format;
  artefact.pack([](const Linear&) { return Scheme::of_floats("fp8_e4m3", -1, -1); },
                [](const Linear&) {
                  return InputQuantizer{fp8_inputs(false, Per::tensor), 0.5f, 0};
                });
  return artefact;
}

TEST(DequantisedFolder, Fp8OfThreeFormatsIsTheModelThatItStandsFor) {
  Artefact own = fp8_artefact("compressed-tensors");
  for (auto& [name, tensor] : own.tensors)  // quant_method fp8 has the same tensors
    if (name.ends_with("_scale")) tensor = tensor.to(at::kFloat);
  own.config["quantization_config"] = per_tensor("static");
  for (const Artefact& artefact : {fp8_artefact("compressed-tensors"), fp8_artefact("modelopt"), own}) {
    const TemporaryFolder folder;
    artefact.write(folder.path());
    ModelFolder packed = open_model_folder(folder.path());
    ASSERT_TRUE(packed.quantized);
    ASSERT_TRUE(can_start_a_run(packed));
    const std::string linear = "model.layers.1.mlp.up_proj";
    const at::Tensor values = packed.weights->load(linear + ".weight");
    EXPECT_TRUE(packed.weights->input_quantizer(linear).has_value());
    const ModelFolder model = dequantised_folder(std::move(packed));
    EXPECT_FALSE(model.quantized);
    ASSERT_NE(dequantised_weights(model), nullptr);
    EXPECT_EQ(dequantised_weights(model)->described(), "14 linears fp8_e4m3 tensor");
    EXPECT_EQ(dequantised_weights(model)->most_bytes(), 7u * 96 * 64);
    EXPECT_FALSE(model.checkpoint->config().contains("quantization_config"));
    EXPECT_TRUE(model.weights->load(linear + ".weight").equal(values));
    EXPECT_FALSE(model.weights->input_quantizer(linear).has_value());
    EXPECT_EQ(model.checkpoint->tensors().size(), own.graph.expected_tensors().size());
    for (const auto& [name, shape] : own.graph.expected_tensors()) {
      const TensorView view = model.checkpoint->view(name);
      EXPECT_EQ(view.info, (TensorInfo{DType::F16, shape})) << name;
    }
    EXPECT_TRUE(borrow(model.checkpoint->view(linear + ".weight")).equal(values.to(at::kHalf)));
  }
}

TEST(DequantisedFolder, OthersStayWhatTheyAre) {
  Artefact artefact;
  artefact.pack([](const Linear& linear) {
    return linear.role == LinearRole::o_proj
               ? Scheme{.type = "int", .bits = 4, .group_size = 32, .symmetric = true}
               : Scheme::of_floats("fp8_e4m3");
  });
  const TemporaryFolder folder;
  artefact.write(folder.path());
  EXPECT_FALSE(can_start_a_run(open_model_folder(folder.path())));
}

TEST(DequantisedFolder, Fp8ThatIsNoLinearIsRefused) {
  Artefact artefact = fp8_artefact("compressed-tensors");
  artefact.tensors["model.extra.weight"] = all_codes(4, 4);
  const TemporaryFolder folder;
  artefact.write(folder.path());
  try {
    dequantised_folder(open_model_folder(folder.path()));
    FAIL() << "numbers without a scale were taken";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("tensor 'model.extra.weight': is F8_E4M3, but no linear's weight"));
  }
}

TEST(FloatingTensors, MatricesWithoutTheirScales) {
  Artefact artefact = fp8_artefact("compressed-tensors");
  artefact.config["dtype"] = "bfloat16";
  const TemporaryFolder folder;
  artefact.write(folder.path());
  const auto tensors = floating_tensors(Checkpoint::open(folder.path()));
  EXPECT_EQ(tensors.size(), artefact.graph.expected_tensors().size());
  EXPECT_EQ(tensors.at("model.layers.1.mlp.up_proj.weight").dtype, DType::BF16);
}

}  // namespace
}  // namespace lathe
