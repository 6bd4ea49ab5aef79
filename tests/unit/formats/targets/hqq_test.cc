#include "formats/targets/hqq.h"

#include <gmock/gmock.h>

#include "formats/targets/hqq_reader.h"
#include "formats/targets/model_folder.h"
#include "lib/base/error.h"
#include "tests/unit/formats/targets/artefact_fixture.h"

namespace lathe {
namespace {

using testing::HasSubstr;

Scheme scheme_of(int bits, int axis, int64_t group = 16) {
  return {
      .type = "int", .bits = bits, .group_size = group, .symmetric = false, .real_zero = true, .axis = axis};
}

/// Any codes and parameters that the format can hold.
QuantizedTensor example(int64_t out, int64_t in, const Scheme& scheme, DType scales = DType::F16) {
  const auto shape = scheme.parameter_shape(out, in);
  QuantizedTensor tensor;
  tensor.scheme = scheme;
  tensor.scale_dtype = scales;
  tensor.codes = at::randint(scheme.qmin(), scheme.qmax() + 1, {out, in}, at::kChar);
  tensor.scales = round_to(at::rand(shape) + 0.1, scales);
  tensor.zero_points = round_to(at::rand(shape) * (1 << scheme.bits), scales) + scheme.qmin();
  return tensor;
}

/// The library's own files: its encoded state dict, and what its dequantize() makes of it in FP16.
TEST(Hqq, ReadsAndWritesTheLibrarysBytes) {
  const std::filesystem::path golden = std::string(LATHE_SOURCE_DIR) + "/tests/golden/hqq";
  const auto tensors = test::read_safetensors(golden / "layout.safetensors");
  const nlohmann::json cases = nlohmann::json::parse(read_text_file(golden / "layout.json", 1 << 20));
  ASSERT_EQ(cases.size(), 14u);
  for (const nlohmann::json& item : cases) {
    const std::string name = item.at("name");
    SCOPED_TRACE(name);
    const Scheme scheme = scheme_of(item.at("bits"), item.at("axis"));
    const at::Tensor dequantized = tensors.at(name + ".dequantized").to(at::kFloat);
    const int64_t out = dequantized.size(0), in = dequantized.size(1);
    QuantizedTensor read;
    read.scheme = scheme;
    read.codes = hqq_unpack(tensors.at(name + ".W_q"), scheme, out, in);
    const auto shape = scheme.parameter_shape(out, in);
    read.scales = tensors.at(name + ".scale").to(at::kFloat).view(shape);
    read.zero_points = tensors.at(name + ".zero").to(at::kFloat).view(shape) + scheme.qmin();
    // The library subtracts and multiplies in FP16.
    EXPECT_LT((read.dequantize() - dequantized).abs().max().item<double>(), 2e-4);
    size_t count = 1;  // .dequantized
    for (const auto& [key, value] : hqq_target().pack(name, read)) {
      ASSERT_TRUE(tensors.contains(key)) << key;
      EXPECT_EQ(value.scalar_type(), tensors.at(key).scalar_type()) << key;
      // The library calls its 4-bit layers round_zero, though its solver leaves the integers.
      EXPECT_TRUE(key.ends_with(".round_zero") || value.equal(tensors.at(key))) << key;
      ++count;
    }
    EXPECT_EQ(count,
              std::ranges::count_if(tensors, [&](const auto& t) { return t.first.starts_with(name + "."); }));
  }
}

/// Integer grids in the library's own files, and bit for bit what its dequantize() makes of them: q - z is
/// exact in FP16 and BF16, and their product with the scale is rounded once.
TEST(Hqq, WritesIntegerZeroPointsAsTheLibraryMeansThem) {
  const std::filesystem::path golden = std::string(LATHE_SOURCE_DIR) + "/tests/golden/hqq";
  const auto tensors = test::read_safetensors(golden / "integers.safetensors");
  const nlohmann::json cases = nlohmann::json::parse(read_text_file(golden / "integers.json", 1 << 20));
  ASSERT_EQ(cases.size(), 5u);
  for (const nlohmann::json& item : cases) {
    const std::string name = item.at("name");
    SCOPED_TRACE(name);
    const at::Tensor &dequantized = tensors.at(name + ".dequantized"), &scales = tensors.at(name + ".scale");
    QuantizedTensor tensor;
    tensor.scheme = {
        .type = "int", .bits = item.at("bits"), .group_size = 16, .symmetric = item.at("symmetric")};
    tensor.scale_dtype = scales.scalar_type() == at::kHalf ? DType::F16 : DType::BF16;
    const int64_t out = dequantized.size(0), in = dequantized.size(1);
    const auto shape = tensor.scheme.parameter_shape(out, in);
    tensor.codes = hqq_unpack(tensors.at(name + ".W_q"), tensor.scheme, out, in);
    tensor.scales = scales.to(at::kFloat).view(shape);
    const at::Tensor zeros = tensors.at(name + ".zero").to(at::kFloat).view(shape) + tensor.scheme.qmin();
    if (!tensor.scheme.symmetric) tensor.zero_points = zeros.to(at::kChar);
    EXPECT_TRUE(tensor.dequantize().to(dequantized.scalar_type()).equal(dequantized));
    const PlannedLinear linear{name, out, in, tensor.scheme, tensor.scale_dtype};
    EXPECT_EQ(hqq_target().refuses(linear).value_or(""), "");
    EXPECT_EQ(hqq_layout(linear).size(), hqq_target().pack(name, tensor).size());
    for (const auto& [key, value] : hqq_target().pack(name, tensor)) {
      ASSERT_TRUE(tensors.contains(key)) << key;
      EXPECT_TRUE(key.ends_with(".round_zero") || value.equal(tensors.at(key))) << key;
    }
  }
}

TEST(Hqq, PackingIsReversibleForEveryBitWidthAndShape) {
  at::manual_seed(1);
  for (const int bits : {1, 2, 3, 4, 5, 6, 8}) {
    for (const int axis : {0, 1}) {
      for (const auto& [out, in] : {std::pair<int64_t, int64_t>{16, 16}, {48, 80}, {32, 16}}) {
        const QuantizedTensor tensor = example(out, in, scheme_of(bits, axis));
        const at::Tensor packed = hqq_pack(tensor.codes, tensor.scheme);
        EXPECT_TRUE(hqq_unpack(packed, tensor.scheme, out, in).equal(tensor.codes)) << bits << " " << axis;
        const PlannedLinear linear{"l", out, in, tensor.scheme, DType::F16};
        const auto layout = hqq_layout(linear);
        const auto contents = hqq_target().pack("l", tensor);
        ASSERT_EQ(layout.size(), contents.size());
        for (size_t i = 0; i < layout.size(); ++i) {
          EXPECT_EQ(layout[i].name, contents[i].first);
          EXPECT_EQ(layout[i].info, info_of(contents[i].second)) << layout[i].name;
        }
      }
    }
  }
}

/// A Llama whose down projections are stored so; `change` spoils it.
std::string refusal(const std::function<void(std::map<std::string, at::Tensor>&)>& change) {
  test::Artefact artefact;
  std::vector<PlannedLinear> planned;
  std::map<std::string, QuantizedTensor> meant;
  for (const Block& block : artefact.graph.blocks) {
    const Linear& linear = *block.find(LinearRole::down_proj);
    const Scheme scheme = scheme_of(4, block.index == 0 ? 1 : 0);
    planned.push_back({linear.name, linear.out, linear.in, scheme, DType::F16});
    meant[linear.name] = example(linear.out, linear.in, scheme);
    artefact.tensors.erase(linear.name + ".weight");
    for (const auto& [name, tensor] : hqq_target().pack(linear.name, meant[linear.name]))
      artefact.tensors[name] = tensor;
  }
  artefact.config["quantization_config"] = hqq_target().quantization_config(planned, {"lm_head"});
  change(artefact.tensors);
  const test::TemporaryFolder folder;
  artefact.write(folder.path());
  try {
    const ModelFolder model = open_model_folder(folder.path());
    for (const auto& [name, tensor] : meant) {
      const QuantizedTensor read = model.read_quantized(name);
      EXPECT_EQ(read.scheme, tensor.scheme);
      EXPECT_TRUE(read.codes.equal(tensor.codes) && read.scales.equal(tensor.scales) &&
                  read.zero_points.equal(tensor.zero_points));
      EXPECT_TRUE(model.weights->load(name + ".weight").equal(tensor.dequantize()));
    }
    EXPECT_EQ(model.schemes.size(), 2u);
  } catch (const UserError& error) {
    return error.what();
  }
  return {};
}

constexpr const char* kLinear = "model.layers.1.mlp.down_proj";

TEST(HqqReader, ReadsWhatWasWritten) {
  EXPECT_EQ(refusal([](auto&) {}), "");
}

TEST(HqqReader, NamesWhatIsWrong) {
  const std::string name = kLinear;
  const auto set = [&](const char* suffix, const at::Tensor& value) {
    return [=](std::map<std::string, at::Tensor>& tensors) { tensors[name + suffix] = value; };
  };
  const auto drop = [&](const char* suffix) {
    return [=](std::map<std::string, at::Tensor>& tensors) { tensors.erase(name + suffix); };
  };
  const auto int32 = [](int64_t value) { return at::scalar_tensor(value, at::kInt); };
  EXPECT_THAT(refusal(drop(".zero")), HasSubstr(name + ".zero' is missing"));
  EXPECT_THAT(refusal(drop(".nbits")), HasSubstr(name + ".nbits' is missing"));
  EXPECT_THAT(refusal(set(".nbits", int32(9))), HasSubstr("expected 1 to 8, found 9"));
  EXPECT_THAT(refusal(set(".nbits", int32(7))), HasSubstr("bits 7"));
  EXPECT_THAT(refusal(set(".nbits", at::scalar_tensor(4, at::kLong))), HasSubstr("expected I32"));
  EXPECT_THAT(refusal(set(".axis", int32(2))), HasSubstr("expected 0 to 1, found 2"));
  EXPECT_THAT(refusal(set(".group_size", int32(7))), HasSubstr("does not divide"));
  EXPECT_THAT(refusal(set(".group_size", int32(0))), HasSubstr("found 0"));
  EXPECT_THAT(refusal(set(".shape", at::tensor({96, 64}, at::kLong))),
              HasSubstr("expected 64, 96, found 96, 64"));
  EXPECT_THAT(refusal(set(".W_q", at::zeros({3, 3}, at::kByte))), HasSubstr(".W_q"));
  EXPECT_THAT(refusal(set(".quant_scale", at::scalar_tensor(1, at::kByte))),
              HasSubstr("expected 0, found 1"));
  EXPECT_THAT(refusal(set(".packing",
                          at::tensor(std::vector<uint8_t>{'4', 'b', 'i', 't', '_', 'u', '9'}, at::kByte))),
              HasSubstr("expected 4bit_u8, found 4bit_u9"));
  EXPECT_THAT(refusal(set(".meta_scale", int32(1))), HasSubstr("not expected beside"));
  const at::Tensor scales = at::ones({1, 384}, at::kHalf);
  scales[0][5] = -1;
  EXPECT_THAT(refusal(set(".scale", scales)), HasSubstr("expected a positive number"));
  scales[0][5] = NAN;
  EXPECT_THAT(refusal(set(".scale", scales)), HasSubstr(".scale"));
}

TEST(HqqTarget, RefusesWhatTheLibraryCannotHold) {
  const auto reason = [](Scheme scheme, int64_t out = 64, int64_t in = 96) {
    return hqq_target().refuses({"l", out, in, scheme, DType::F16}).value_or("");
  };
  EXPECT_EQ(reason(scheme_of(4, 1)), "");
  EXPECT_THAT(reason(scheme_of(7, 1)), HasSubstr("bits 7"));
  EXPECT_EQ(reason({"int", 4, 16, true}), "");
  EXPECT_EQ(reason({"int", 4, 16, false}), "");
  EXPECT_THAT(reason({"int", 7, 16, false}), HasSubstr("bits 7"));
  EXPECT_THAT(reason(Scheme::of_floats("fp8_e4m3")), HasSubstr("scheme type 'fp8_e4m3' can't be stored"));
  PlannedLinear linear{"l", 64, 96, {"int", 4, 16, true}, DType::F16};
  linear.group_index = true;
  EXPECT_THAT(hqq_target().refuses(linear).value_or(""), HasSubstr("g_idx"));
  linear.group_index = false;
  linear.activations = ActivationScheme{};
  EXPECT_THAT(hqq_target().refuses(linear).value_or(""), HasSubstr("quantised activations"));
  EXPECT_THAT(reason(scheme_of(4, 1, 36)), HasSubstr("does not divide"));
  EXPECT_THAT(reason(scheme_of(4, 1, -1), 3, 96),
              HasSubstr("packs 2 rows of groups in a byte, and there are 3"));
  EXPECT_EQ(reason(scheme_of(3, 1, -1), 3, 96), "");
  EXPECT_THAT(reason(scheme_of(1, 0, 4)), HasSubstr("packs 8 rows"));
}

TEST(HqqTarget, ConfigNamesLinearsOnlyWhereTheyDiffer) {
  const std::vector<PlannedLinear> same = {{"a", 64, 96, scheme_of(4, 1)}, {"b", 64, 32, scheme_of(4, 1)}};
  const auto one = hqq_target().quantization_config(same, {"lm_head"});
  EXPECT_EQ(one.at("quant_config").at("weight_quant_params").at("nbits"), 4);
  EXPECT_EQ(one.at("skip_modules"), nlohmann::json::array({"lm_head"}));
  const std::vector<PlannedLinear> mixed = {{"a", 64, 96, scheme_of(4, 1)}, {"b", 64, 32, scheme_of(2, 0)}};
  const auto two = hqq_target().quantization_config(mixed, {});
  EXPECT_EQ(two.at("quant_config").at("b").at("weight_quant_params").at("axis"), 0);
}

}  // namespace
}  // namespace lathe
