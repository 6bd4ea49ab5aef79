#include "formats/targets/gptq.h"

#include <gmock/gmock.h>

#include "formats/targets/code_words.h"
#include "formats/targets/gptq_config.h"
#include "lib/base/error.h"
#include "tests/unit/formats/targets/artefact_fixture.h"
#include "tests/unit/model/test_model.h"

namespace lathe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Golden {
  std::string name;
  QuantizedTensor tensor;
  std::map<std::string, at::Tensor> files;
};

/// What GPTQModel was given.
std::vector<Golden> goldens() {
  std::vector<Golden> all;
  const std::filesystem::path folder = std::filesystem::path(LATHE_SOURCE_DIR) / "tests/golden/gptq";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    Golden golden{entry.path().stem().string(), {}, test::read_safetensors(entry.path())};
    const auto& files = golden.files;
    QuantizedTensor& tensor = golden.tensor;
    tensor.scheme.bits = golden.name[1] - '0';
    tensor.scheme.symmetric = golden.name.find("asym") == std::string::npos;
    const int64_t groups = files.at("scales").size(0), in = files.at("in.codes").size(1);
    tensor.scheme.group_size = groups == 1 ? -1 : in / groups;
    const auto counted_from_qmin = [&](const at::Tensor& t) {
      return (t.to(at::kShort) + tensor.scheme.qmin()).to(at::kChar);
    };
    tensor.codes = counted_from_qmin(files.at("in.codes"));
    tensor.scales = files.at("scales").to(at::kFloat).t().contiguous();
    if (!tensor.scheme.symmetric) tensor.zero_points = counted_from_qmin(files.at("in.zeros"));
    if (golden.name.ends_with("_act")) tensor.group_index = files.at("g_idx");
    all.push_back(std::move(golden));
  }
  std::ranges::sort(all, {}, &Golden::name);
  return all;
}

TEST(GptqLibrary, PacksTheSameBytes) {
  const auto all = goldens();
  ASSERT_EQ(all.size(), 8u);
  for (const Golden& golden : all) {
    SCOPED_TRACE(golden.name);
    for (const char* name : {"gptq", "gptq-v2"}) {
      const bool v1 = std::string(name) == "gptq";
      if (v1 && !golden.tensor.scheme.symmetric) continue;
      const auto packed = find_target(name).pack("m", golden.tensor);
      ASSERT_EQ(packed.size(), 4u);
      for (const auto& [key, tensor] : packed) {
        std::string expected = key.substr(2);
        if (expected == "qzeros") expected += v1 ? "_v1" : "_v2";
        EXPECT_EQ(tensor.scalar_type(), golden.files.at(expected).scalar_type()) << key;
        EXPECT_TRUE(tensor.is_contiguous() && tensor.equal(golden.files.at(expected))) << name << key;
      }
    }
  }
}

TEST(GptqLibrary, UnpackedBytesGiveTheLibrarysValues) {
  for (const Golden& golden : goldens()) {
    SCOPED_TRACE(golden.name);
    const int bits = golden.tensor.scheme.bits;
    const int64_t out = golden.tensor.rows();
    QuantizedTensor read = golden.tensor;
    read.codes = unpack_gptq_words(golden.files.at("qweight"), bits);
    // The library multiplies in FP16: one rounding of our exact product.
    EXPECT_TRUE(read.dequantize().to(at::kHalf).equal(golden.files.at("dequant")));
    const at::Tensor zeros = (golden.files.at("in.zeros").to(at::kShort) + golden.tensor.scheme.qmin());
    for (const auto& [key, version] :
         {std::pair{"qzeros_v1", GptqVersion::v1}, std::pair{"qzeros_v2", GptqVersion::v2}}) {
      const auto found = unpack_gptq_zeros(golden.files.at(key), bits, out, version, GptqBorrow::whole_words);
      ASSERT_TRUE(found.has_value());
      EXPECT_TRUE(found->to(at::kShort).equal(zeros)) << key;
    }
    // Each of the asymmetric ones has a zero of 0, which version 1 leaves open.
    const auto strict =
        unpack_gptq_zeros(golden.files.at("qzeros_v1"), bits, out, GptqVersion::v1, GptqBorrow::refuse);
    EXPECT_EQ(strict.has_value(), golden.tensor.scheme.symmetric);
  }
}

TEST(Gptq, LayoutPromisesWhatPackDelivers) {
  for (const Golden& golden : goldens()) {
    const Target target = gptq_v2_target();
    const QuantizedTensor& tensor = golden.tensor;
    const auto planned = target.layout({"m", tensor.rows(), tensor.cols(), tensor.scheme, DType::F16});
    const auto packed = target.pack("m", tensor);
    ASSERT_EQ(planned.size(), packed.size());
    for (size_t i = 0; i < planned.size(); ++i) {
      EXPECT_EQ(planned[i].name, packed[i].first);
      EXPECT_EQ(planned[i].info, info_of(packed[i].second)) << planned[i].name;
    }
  }
}

TEST(Gptq, AZeroOfZeroNeverWraps) {
  const at::Tensor zeros = at::full({32, 1}, -8, at::kChar);
  EXPECT_THROW(pack_gptq_zeros(zeros, 4, GptqVersion::v1), InternalError);
  EXPECT_EQ(pack_gptq_zeros(zeros, 4, GptqVersion::v2).abs().sum().item<int64_t>(), 0);
}

TEST(Gptq, VersionOneHoldsZeroPointsFromOneOn) {
  const Scheme scheme{"int", 4, 64, false};
  QuantizedTensor tensor{scheme, DType::F16, at::randint(-8, 8, {32, 128}, at::kChar), at::ones({32, 2}),
                         at::randint(-7, 8, {32, 2}, at::kChar)};
  const auto packed = gptq_target().pack("m", tensor);
  const at::Tensor qzeros = packed.at(1).second;
  const auto back = unpack_gptq_zeros(qzeros, 4, 32, GptqVersion::v1, GptqBorrow::refuse);
  ASSERT_TRUE(back && back->equal(tensor.zero_points));
  // Kernels that add 1 to each field by itself, and GPTQModel, which adds to the whole word, read the same.
  EXPECT_TRUE(unpack_gptq_zeros(qzeros, 4, 32, GptqVersion::v1, GptqBorrow::whole_words)->equal(*back));
  tensor.zero_points[3][1] = -8;
  EXPECT_THAT(user_error_of([&] { gptq_target().pack("m", tensor); }),
              HasSubstr("m: the zero point at [3, 1] (output, group) is 0"));
  EXPECT_EQ(gptq_v2_target().pack("m", tensor).size(), 4u);
  EXPECT_TRUE(gptq_target().zero_above_lowest && !gptq_v2_target().zero_above_lowest);
}

TEST(Gptq, Refusals) {
  const auto reason = [](const PlannedLinear& linear, const Target& target = gptq_v2_target()) {
    return target.refuses(linear).value_or("");
  };
  const Scheme four{"int", 4, 128, true}, asymmetric{"int", 4, 128, false};
  EXPECT_THAT(reason({"m", 64, 256, four, DType::F16}, gptq_target()), IsEmpty());
  EXPECT_THAT(reason({"m", 64, 256, four, DType::BF16}, gptq_target()), IsEmpty());
  EXPECT_THAT(reason({"m", 64, 256, asymmetric, DType::F16}), IsEmpty());
  EXPECT_THAT(reason({"m", 64, 256, {"int", 3, -1, true}, DType::F16}), IsEmpty());
  EXPECT_THAT(reason({"m", 64, 256, asymmetric, DType::F16}, gptq_target()), IsEmpty());
  EXPECT_THAT(reason({"m", 64, 256, {"int", 5, 128, true}, DType::F16}), HasSubstr("bits 5 can't be stored"));
  EXPECT_THAT(reason({"m", 64, 264, four, DType::F16}), HasSubstr("does not divide"));
  EXPECT_THAT(reason({"m", 60, 256, four, DType::F16}), HasSubstr("multiples of 8"));
  EXPECT_THAT(reason({"m", 48, 256, {"int", 3, 128, true}, DType::F16}), HasSubstr("multiples of 32"));
  EXPECT_THAT(reason({"m", 64, 240, {"int", 4, 24, true}, DType::F16}),
              HasSubstr("group_size 24 can't be loaded"));
  EXPECT_THAT(reason({"m", 64, 256, four, DType::F32}), HasSubstr("scales of type F32"));
  EXPECT_THAT(reason({"m", 64, 256, four, DType::F16, LinearRole::router}), HasSubstr("quantised router"));
  PlannedLinear active{"m", 64, 256, four, DType::F16};
  active.activations = ActivationScheme{};
  EXPECT_THAT(reason(active), HasSubstr("weights only"));
  Scheme real = asymmetric;
  real.real_zero = true;
  EXPECT_THAT(reason({"m", 64, 256, real, DType::F16}), HasSubstr("real zero points"));
}

/// Of four linears with this scheme, one of which has groups in an order of their own.
std::vector<std::string> warnings(const Scheme& scheme, bool group_index = false,
                                  GptqVersion version = GptqVersion::v1) {
  PlannedLinear linear{"model.layers.0.mlp.up_proj", 64, 256, scheme, DType::F16};
  linear.group_index = group_index;
  return gptq_warnings({linear, linear}, version);
}

TEST(Gptq, WarnsOfWhatVllmRefuses) {
  EXPECT_THAT(warnings({"int", 4, 128, true}), IsEmpty());
  EXPECT_THAT(warnings({"int", 8, -1, true}), IsEmpty());
  EXPECT_THAT(warnings({"int", 8, -1, true}, true), IsEmpty());
  EXPECT_THAT(warnings({"int", 3, 128, true}).at(0), HasSubstr("4 and 8 bits only"));
  EXPECT_THAT(
      warnings({"int", 4, 128, false}),
      ElementsAre(testing::AllOf(HasSubstr("symmetric weights"), HasSubstr("; transformers reads it")),
                  HasSubstr("GPTQModel (7.7) won't load")));
  EXPECT_THAT(warnings({"int", 4, 128, false}, false, GptqVersion::v2),
              ElementsAre(HasSubstr("; GPTQModel reads it")));
  EXPECT_THAT(warnings({"int", 4, 256, true}).at(0), HasSubstr("groups of 32, 64 and 128"));
  EXPECT_THAT(warnings({"int", 4, 64, true}, true).at(0), HasSubstr("desc_act"));
}

TEST(Gptq, WarnsOfWhoReadsExperts) {
  PlannedLinear linear{"model.layers.0.mlp.experts.0.up_proj", 64, 256, {"int", 4, 128, true}, DType::F16};
  linear.expert = true;
  EXPECT_THAT(gptq_warnings({linear}, GptqVersion::v1),
              ElementsAre(HasSubstr("GPTQModel and vLLM read them, but transformers 5")));
  linear.name = "model.layers.0.block_sparse_moe.experts.0.w3";
  EXPECT_THAT(gptq_warnings({linear}, GptqVersion::v1),
              ElementsAre(HasSubstr("GPTQModel (7.7) looks for Mixtral's under other")));
}

TEST(GptqConfig, AQuantisedHeadIsSaid) {
  PlannedLinear linear{"model.layers.0.mlp.up_proj", 64, 256, {"int", 4, 128, true}, DType::F16};
  PlannedLinear head{"lm_head", 64, 256, {"int", 4, 128, true}, DType::F16, LinearRole::lm_head};
  EXPECT_EQ(gptq_target().quantization_config({linear}, {"lm_head"})["lm_head"], false);
  const auto config = gptq_target().quantization_config({linear, head}, {});
  EXPECT_EQ(config["lm_head"], true);
  EXPECT_TRUE(parse_gptq_config(config, "config.json").lm_head);
  EXPECT_THAT(gptq_warnings({linear, head}, GptqVersion::v1),
              ElementsAre(HasSubstr("GPTQModel and vLLM read it, but transformers")));
}

TEST(GptqConfig, IsOneObjectInBothFiles) {
  PlannedLinear linear{"model.layers.0.mlp.up_proj", 64, 256, {"int", 4, 128, true}, DType::F16};
  const auto config = gptq_target().quantization_config({linear}, {"lm_head"});
  EXPECT_EQ(config["checkpoint_format"], "gptq");
  EXPECT_EQ(config["format"], "gptq");
  EXPECT_EQ(config["desc_act"], false);
  EXPECT_FALSE(config.contains("dynamic"));
  const auto files = gptq_target().side_files(config);
  ASSERT_EQ(files.size(), 1u);
  EXPECT_EQ(files[0].first, "quantize_config.json");
  EXPECT_EQ(files[0].second, config);
  linear.group_index = true;
  const auto v2 = gptq_v2_target().quantization_config({linear}, {});
  EXPECT_EQ(v2["checkpoint_format"], "gptq_v2");
  EXPECT_EQ(v2["desc_act"], true);
}

TEST(GptqConfig, MixedSchemesAreRules) {
  const Scheme four{"int", 4, 64, true}, eight{"int", 8, -1, true};
  const auto linear = [](const std::string& name, const Scheme& scheme) {
    return PlannedLinear{"model.layers." + name, 64, 256, scheme, DType::F16};
  };
  std::vector<PlannedLinear> linears;
  for (const char* name :
       {"0.self_attn.q_proj", "0.self_attn.k_proj", "0.self_attn.v_proj", "0.self_attn.o_proj"})
    linears.push_back(linear(name, eight));
  for (const char* name :
       {"0.mlp.gate_proj", "0.mlp.up_proj", "1.self_attn.q_proj", "1.self_attn.k_proj", "1.self_attn.v_proj"})
    linears.push_back(linear(name, four));
  const std::vector<std::string> kept = {"model.layers.0.mlp.down_proj", "lm_head"};
  const auto config = gptq_target().quantization_config(linears, kept);
  EXPECT_EQ(config["bits"], 4);
  EXPECT_EQ(config["dynamic"], nlohmann::json::parse(R"({
    "+:^model\\.layers\\.0\\.self_attn\\.(?:q_proj|k_proj|v_proj|o_proj|qkv_proj)$":
      {"bits": 8, "group_size": -1, "sym": true},
    "-:^model\\.layers\\.0\\.mlp\\.(?:down_proj)$": {}})"));
  EXPECT_EQ(config["modules_in_block_to_quantize"][0].size(), linears.size());
  EXPECT_THAT(gptq_warnings(linears, GptqVersion::v1).at(0), HasSubstr("several schemes"));

  const GptqConfig read = parse_gptq_config(config, "c");
  for (const PlannedLinear& planned : linears) EXPECT_EQ(read.scheme_of(planned.name, "c"), planned.scheme);
  EXPECT_EQ(read.scheme_of("model.layers.0.mlp.down_proj", "c"), std::nullopt);
  EXPECT_EQ(read.scheme_of("model.layers.10.self_attn.q_proj", "c"), four);
  EXPECT_EQ(read.scheme_of("model.layers.0.self_attn.qkv_proj", "c"), eight);
}

TEST(GptqConfig, ExpertsAreNamedAsTheirStack) {
  const auto patterns = [](const std::vector<std::string>& leaves) {
    std::vector<PlannedLinear> linears = {{"m.a", 64, 256, {"int", 4, 64, true}, DType::F16}};
    linears.push_back(linears[0]);
    std::vector<std::string> kept;
    for (const char* expert : {"0", "1", "12"}) {
      for (const auto& leaf : leaves) kept.push_back("m.mlp.experts." + std::string(expert) + "." + leaf);
    }
    const auto config = gptq_target().quantization_config(linears, kept);
    std::vector<std::string> keys;
    for (const auto& [key, value] : config["dynamic"].items()) keys.push_back(key);
    return keys;
  };
  EXPECT_EQ(
      patterns({"w1", "w2", "w3"}),
      (std::vector<std::string>{R"(-:^m\.mlp\.experts$)", R"(-:^m\.mlp\.experts\.\d+\.(?:w1|w2|w3)$)"}));
  EXPECT_EQ(patterns({"w2"}), (std::vector<std::string>{R"(-:^m\.mlp\.experts\.\d+\.(?:w2)$)"}));
}

}  // namespace
}  // namespace lathe
