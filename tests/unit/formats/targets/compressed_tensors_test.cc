#include "formats/targets/compressed_tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/targets/bitpack.h"
#include "formats/targets/compressed_tensors_config.h"
#include "lib/base/error.h"
#include "tests/unit/formats/targets/artefact_fixture.h"

namespace lathe {
namespace {

using ::testing::HasSubstr;

const Target& target() { return find_target("compressed-tensors"); }

const std::filesystem::path kGolden =
    std::filesystem::path(LATHE_SOURCE_DIR) / "tests/golden/compressed_tensors";

struct Golden {
  std::string name;
  Scheme scheme;
  std::map<std::string, at::Tensor> tensors;
};

std::vector<Golden> goldens() {
  std::vector<Golden> all;
  const auto manifest = nlohmann::json::parse(read_text_file(kGolden / "manifest.json"));
  for (const auto& [name, entry] : manifest.at("cases").items()) {
    const auto& weights = entry.at("weights");
    Scheme scheme{.type = weights.at("type"),
                  .bits = weights.at("num_bits"),
                  .group_size = weights.at("strategy") == "channel" ? int64_t{-1}
                                                                    : weights.at("group_size").get<int64_t>(),
                  .symmetric = weights.at("symmetric")};
    all.push_back({name, scheme, test::read_safetensors(kGolden / (name + ".safetensors"))});
  }
  return all;
}

/// The codes that the library packed, by the library's arithmetic: everything in BF16 (torch.div, add, round,
/// clamp).
QuantizedTensor library_codes(const Golden& golden) {
  const at::Tensor weight = golden.tensors.at("in.weight"), scales = golden.tensors.at("in.weight_scale");
  const at::Tensor zeros = golden.tensors.at("in.weight_zero_point");
  const int64_t length = golden.scheme.group_length(weight.size(1));
  at::Tensor x = weight / scales.repeat_interleave(length, 1);
  if (!golden.scheme.symmetric) x = x + zeros.to(at::kBFloat16).repeat_interleave(length, 1);
  return {.scheme = golden.scheme,
          .scale_dtype = DType::BF16,
          .codes = x.round().clamp(golden.scheme.qmin(), golden.scheme.qmax()).to(at::kChar),
          .scales = scales.to(at::kFloat),
          .zero_points = golden.scheme.symmetric ? at::Tensor() : zeros};
}

TEST(CompressedTensors, PacksTheSameBytesAsTheLibrary) {
  const auto all = goldens();
  ASSERT_EQ(all.size(), 18u);
  for (const Golden& golden : all) {
    SCOPED_TRACE(golden.name);
    const auto packed = target().pack("out", library_codes(golden));
    EXPECT_EQ(packed.size(), golden.scheme.symmetric ? 3u : 4u);
    EXPECT_EQ(golden.tensors.contains("out.weight_zero_point"), !golden.scheme.symmetric);
    for (const auto& [name, tensor] : packed) {
      const at::Tensor& expected = golden.tensors.at(name);
      EXPECT_EQ(tensor.scalar_type(), expected.scalar_type()) << name;
      EXPECT_TRUE(tensor.is_contiguous() && tensor.equal(expected)) << name;
    }
  }
}

TEST(CompressedTensors, UnpackedLibraryBytesGiveTheLibrarysValues) {
  for (const Golden& golden : goldens()) {
    SCOPED_TRACE(golden.name);
    const at::Tensor expected = golden.tensors.at("dequant");
    const int64_t out = expected.size(0), in = expected.size(1);
    const int bits = golden.scheme.bits, half = 1 << (bits - 1);
    QuantizedTensor tensor = library_codes(golden);
    tensor.codes =
        (unpack_rows(golden.tensors.at("out.weight_packed"), bits, in).to(at::kShort) - half).to(at::kChar);
    if (!golden.scheme.symmetric) {
      const at::Tensor words = golden.tensors.at("out.weight_zero_point").t().contiguous();
      tensor.zero_points =
          (unpack_rows(words, bits, out).to(at::kShort) - half).to(at::kChar).t().contiguous();
    }
    // The library multiplies in BF16: one rounding of our exact product.
    EXPECT_TRUE(tensor.dequantize().to(at::kBFloat16).equal(expected));
  }
}

TEST(CompressedTensors, LayoutPromisesWhatPackDelivers) {
  for (const Golden& golden : goldens()) {
    SCOPED_TRACE(golden.name);
    const QuantizedTensor tensor = library_codes(golden);
    const auto planned = target().layout({"m", tensor.rows(), tensor.cols(), golden.scheme, DType::BF16});
    const auto packed = target().pack("m", tensor);
    ASSERT_EQ(planned.size(), packed.size());
    for (size_t i = 0; i < planned.size(); ++i) {
      EXPECT_EQ(planned[i].name, packed[i].first);
      EXPECT_EQ(planned[i].info, info_of(packed[i].second)) << planned[i].name;
    }
  }
}

TEST(CompressedTensors, CodesOutsideTheirBitsAreOurBug) {
  QuantizedTensor tensor = library_codes(goldens().front());
  tensor.codes[0][0] = 127;
  EXPECT_THROW(target().pack("m", tensor), InternalError);
}

TEST(CompressedTensors, ConfigOfOneScheme) {
  const Scheme scheme{.type = "int", .bits = 4, .group_size = 128, .symmetric = true};
  const auto config =
      target().quantization_config({{"a", 8, 256, scheme, DType::F16}, {"b", 8, 256, scheme, DType::F16}},
                                   {"model.layers.0.mlp.down_proj", "lm_head"});
  EXPECT_EQ(config, nlohmann::json::parse(R"({
    "quant_method": "compressed-tensors", "version": "0.19.0", "format": "pack-quantized",
    "quantization_status": "compressed", "global_compression_ratio": null, "kv_cache_scheme": null,
    "ignore": ["model.layers.0.mlp.down_proj", "lm_head"], "sparsity_config": {}, "transform_config": {},
    "config_groups": {"group_0": {"targets": ["Linear"], "format": "pack-quantized", "input_activations": null,
      "output_activations": null, "weights": {"num_bits": 4, "type": "int", "symmetric": true, "strategy": "group",
      "group_size": 128, "dynamic": false}}}})"));
}

// vLLM's class of a head is no Linear.
TEST(CompressedTensors, AHeadIsNamedBesideTheClass) {
  const Scheme scheme{.type = "int", .bits = 4, .group_size = 128, .symmetric = true};
  const PlannedLinear head{"lm_head", 8, 256, scheme, DType::F16, LinearRole::lm_head};
  const auto config = target().quantization_config({{"a", 8, 256, scheme, DType::F16}, head}, {});
  EXPECT_EQ(config.at("ignore"), nlohmann::json::array());
  EXPECT_EQ(config.at("config_groups").at("group_0").at("targets"), nlohmann::json({"Linear", "lm_head"}));
}

TEST(CompressedTensors, ConfigOfSeveralSchemesNamesEachLinear) {
  const Scheme four{.type = "int", .bits = 4, .group_size = 64, .symmetric = false};
  const Scheme eight{.type = "int", .bits = 8, .group_size = -1, .symmetric = true};
  const auto config = target().quantization_config({{"l.0.q", 8, 64, four, DType::F16},
                                                    {"l.0.o", 8, 64, eight, DType::F16},
                                                    {"l.1.q", 8, 64, four, DType::F16}},
                                                   {});
  EXPECT_EQ(config.at("ignore"), nlohmann::json::array());
  EXPECT_EQ(config.at("config_groups"), nlohmann::json::parse(R"({
    "group_0": {"targets": ["l.0.q", "l.1.q"], "format": "pack-quantized", "input_activations": null,
      "output_activations": null, "weights": {"num_bits": 4, "type": "int", "symmetric": false, "strategy": "group",
      "group_size": 64, "dynamic": false}},
    "group_1": {"targets": ["l.0.o"], "format": "pack-quantized", "input_activations": null,
      "output_activations": null, "weights": {"num_bits": 8, "type": "int", "symmetric": true, "strategy": "channel",
      "dynamic": false}}})"));
}

TEST(CompressedTensors, ExpertsAreOneTargetWhereThereAreSeveralSchemes) {
  const Scheme four{.type = "int", .bits = 4, .group_size = 32, .symmetric = true};
  const Scheme eight{.type = "int", .bits = 8, .group_size = 32, .symmetric = true};
  const auto expert = [&](const std::string& name, const Scheme& scheme) {
    return PlannedLinear{name, 8, 64, scheme, DType::F16, LinearRole::up_proj, true};
  };
  const std::string pattern = "re:.*\\.experts\\.\\d+\\..*";
  const auto config = target().quantization_config({{"l.0.q", 8, 64, four, DType::F16},
                                                    expert("l.0.experts.0.w1", eight),
                                                    expert("l.0.experts.1.w1", eight)},
                                                   {"lm_head"});
  EXPECT_EQ(config["config_groups"]["group_0"]["targets"], nlohmann::json({"l.0.q"}));
  EXPECT_EQ(config["config_groups"]["group_1"]["targets"], nlohmann::json({pattern}));
  const CompressedTensorsConfig read = parse_compressed_tensors_config(config, "c");
  EXPECT_EQ(read.scheme_of("l.0.experts.11.w2"), eight);
  EXPECT_EQ(read.scheme_of("l.0.q"), four);
  EXPECT_EQ(read.scheme_of("l.0.shared_expert.up_proj"), std::nullopt);
  const auto one = target().quantization_config(
      {{"l.0.q", 8, 64, four, DType::F16}, expert("l.0.experts.0.w1", four)}, {"lm_head"});
  EXPECT_EQ(one["config_groups"]["group_0"]["targets"], nlohmann::json({"Linear"}));
}

TEST(CompressedTensors, Refusals) {
  struct Case {
    PlannedLinear linear;
    std::string message;  // empty: held
  };
  const std::vector<Case> cases = {
      {{"m", 64, 256, {"int", 4, 128, true}, DType::F16}, ""},
      {{"m", 64, 172, {"int", 4, -1, false}, DType::BF16}, ""},
      {{"m", 3, 5, {"int", 2, 5, false}, DType::F32}, ""},
      {{"m", 64, 172, {"int", 4, 128, true}, DType::F16},
       "group_size 128 does not divide the 172 input features; no multiple of 8 below does: use -1 for one "
       "group a row, or leave this linear out with `ignore`"},
      {{"m", 64, 192, {"int", 4, 128, true}, DType::F16},
       "192 input features; use 64, -1 for one group a row"},
      {{"m", 64, 576, {"int", 4, 128, true}, DType::F16}, "576 input features; use 64, -1"},
      {{"m", 64, 352, {"int", 4, 64, true}, DType::F16}, "352 input features; use 32, -1"},
      {{"m", 64, 240, {"int", 4, 128, true}, DType::F16},
       "240 input features; use 120 (no group size that Marlin in vLLM and SGLang has divides them: 128, 64 "
       "or 32), -1 for one group a row"},
      {{"m", 64, 256, {"int", 9, 128, true}, DType::F16}, "bits 9 can't be stored"},
      {{"m", 64, 256, {"int", 1, 128, true}, DType::F16}, "bits 1 can't be stored"},
      {{"m", 64, 256, {"float", 4, 128, true}, DType::F16}, "scheme type 'float' can't be stored"},
      {{"m", 64, 256, {"int", 4, 0, true}, DType::F16}, "group_size 0: expected a positive number, or -1"},
      {{"m", 64, 256, {"int", 4, -2, true}, DType::F16}, "group_size -2: expected a positive number, or -1"},
      {{"m", 0, 256, {"int", 4, 128, true}, DType::F16}, "shape [0, 256] is empty"},
      {{"m", 64, 256, {"int", 4, 128, true}, DType::I8}, "scales of type I8 can't be stored"},
  };
  for (const Case& c : cases) {
    const auto reason = target().refuses(c.linear);
    EXPECT_EQ(reason.has_value(), !c.message.empty()) << c.message << reason.value_or("");
    EXPECT_THAT(reason.value_or(""), HasSubstr(c.message));
  }
}

TEST(TargetRegistry, UnknownNameListsTheKnown) {
  EXPECT_EQ(find_target("compressed-tensors").name, "compressed-tensors");
  try {
    find_target("compressed_tensors");
    FAIL();
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::StartsWith("unknown output format 'compressed_tensors'; known: "
                                                  "compressed-tensors, gptq, gptq-v2, awq, "
                                                  "awq-gemv, modelopt, hqq, spqr, gguf:F32, "));
    EXPECT_THAT(error.what(), testing::EndsWith("; did you mean 'compressed-tensors'?"));
  }
}

}  // namespace
}  // namespace lathe
