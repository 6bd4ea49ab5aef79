#include "formats/targets/awq.h"

#include <gmock/gmock.h>

#include "formats/targets/awq_config.h"
#include "lib/base/error.h"
#include "tests/unit/formats/targets/artefact_fixture.h"

namespace lathe {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Golden {
  std::string name;
  AwqVersion version;
  QuantizedTensor tensor;
  std::map<std::string, at::Tensor> files;
};

/// What AutoAWQ was given.
std::vector<Golden> goldens() {
  std::vector<Golden> all;
  const std::filesystem::path folder = std::filesystem::path(LATHE_SOURCE_DIR) / "tests/golden/awq";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    Golden golden{entry.path().stem().string(), {}, {}, test::read_safetensors(entry.path())};
    golden.version = golden.name.starts_with("gemm") ? AwqVersion::gemm : AwqVersion::gemv;
    const auto& files = golden.files;
    QuantizedTensor& tensor = golden.tensor;
    tensor.scheme = {"int", 4, files.at("in.codes").size(1) / files.at("in.scales").size(1), false};
    tensor.codes = (files.at("in.codes").to(at::kShort) - 8).to(at::kChar);
    tensor.zero_points = (files.at("in.zeros").to(at::kShort) - 8).to(at::kChar);
    tensor.scales = files.at("in.scales").to(at::kFloat);
    all.push_back(std::move(golden));
  }
  return all;
}

Target target_of(AwqVersion version) {
  return version == AwqVersion::gemm ? awq_target() : awq_gemv_target();
}

TEST(AwqLibrary, PacksAndUnpacksTheSameBytes) {
  const auto all = goldens();
  ASSERT_EQ(all.size(), 5u);
  for (const Golden& golden : all) {
    SCOPED_TRACE(golden.name);
    const auto packed = target_of(golden.version).pack("m", golden.tensor);
    ASSERT_EQ(packed.size(), 3u);
    for (const auto& [key, tensor] : packed) {
      const at::Tensor& expected = golden.files.at(key.substr(2));
      EXPECT_EQ(tensor.scalar_type(), expected.scalar_type()) << key;
      EXPECT_TRUE(tensor.is_contiguous() && tensor.equal(expected)) << key;
    }
    const QuantizedTensor& tensor = golden.tensor;
    EXPECT_TRUE(unpack_awq_codes(golden.files.at("qweight"), golden.version).equal(tensor.codes));
    EXPECT_TRUE(unpack_awq_zeros(golden.files.at("qzeros"), tensor.scales.size(1), golden.version)
                    .equal(tensor.zero_points));
  }
}

TEST(Awq, LayoutPromisesWhatPackDelivers) {
  for (const Golden& golden : goldens()) {
    const Target target = target_of(golden.version);
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

TEST(Awq, SymmetricWeightsHaveZeroPointsOfEight) {
  QuantizedTensor tensor = goldens().front().tensor;
  tensor.scheme.symmetric = true;
  tensor.zero_points = at::Tensor();
  for (const auto& [key, words] : awq_target().pack("m", tensor)) {
    if (key == "m.qzeros") {
      EXPECT_TRUE(words.eq(static_cast<int32_t>(0x88888888)).all().item<bool>());
    }
  }
}

TEST(Awq, Refusals) {
  const auto reason = [](const PlannedLinear& linear, const Target& target = awq_target()) {
    return target.refuses(linear).value_or("");
  };
  const Scheme four{"int", 4, 128, false};
  EXPECT_THAT(reason({"m", 64, 256, four, DType::F16}), IsEmpty());
  EXPECT_THAT(reason({"m", 64, 256, four, DType::F16}, awq_gemv_target()), IsEmpty());
  EXPECT_THAT(reason({"m", 60, 256, four, DType::F16}, awq_gemv_target()), IsEmpty());
  EXPECT_THAT(reason({"m", 64, 172, {"int", 4, -1, true}, DType::F16}), IsEmpty());
  EXPECT_THAT(reason({"m", 64, 256, {"int", 8, 128, false}, DType::F16}), HasSubstr("AWQ holds 4"));
  EXPECT_THAT(reason({"m", 60, 256, four, DType::F16}), HasSubstr("60 output features can't be stored"));
  EXPECT_THAT(reason({"m", 64, 172, {"int", 4, -1, true}, DType::F16}, awq_gemv_target()),
              HasSubstr("172 input features can't be stored"));
  EXPECT_THAT(reason({"m", 64, 256, {"int", 4, 256, false}, DType::F16}), HasSubstr("group_size 256"));
  EXPECT_THAT(reason({"m", 64, 256, {"int", 4, 16, false}, DType::F16}, awq_gemv_target()),
              HasSubstr("groups of 16 can't be stored"));
  PlannedLinear reordered{"m", 64, 256, four, DType::F16};
  reordered.group_index = true;
  EXPECT_THAT(reason(reordered), HasSubstr("no group indices"));
}

TEST(AwqConfig, OneSchemeAndNamesThatAreNoPartsOfOthers) {
  const Scheme four{"int", 4, 128, false}, other{"int", 4, 64, false};
  const std::vector<PlannedLinear> one = {{"l.0.q", 8, 256, four, DType::F16},
                                          {"l.1.q", 8, 256, four, DType::F16}};
  EXPECT_EQ(awq_refuses_model(one, {"l.0.o", "lm_head"}), std::nullopt);
  EXPECT_THAT(awq_refuses_model(one, {"0.q"}).value_or(""), HasSubstr("'0.q' stays in floating point"));
  const std::vector<PlannedLinear> two = {one[0], {"l.1.q", 8, 256, other, DType::F16}};
  EXPECT_THAT(awq_refuses_model(two, {}).value_or(""), HasSubstr("one scheme for all linears"));
}

TEST(AwqConfig, EachConsumerFindsItsKeys) {
  const Scheme four{"int", 4, 128, false};
  const auto config =
      awq_target().quantization_config({{"l.0.q", 8, 256, four, DType::F16}}, {"l.0.o", "lm_head"});
  EXPECT_EQ(config["version"], "gemm");
  EXPECT_EQ(config["zero_point"], true);
  EXPECT_EQ(config["modules_to_not_convert"], nlohmann::json({"l.0.o", "lm_head"}));
  EXPECT_EQ(config["dynamic"], nlohmann::json::parse(R"({"-:^l\\.0\\.(?:o)$": {}})"));
  const auto files = awq_target().side_files(config);
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(files[0].second, config);
  EXPECT_EQ(files[1].first, "quant_config.json");
  // AutoAWQ passes each key to a constructor that knows these only.
  EXPECT_EQ(files[1].second, nlohmann::json::parse(R"({"quant_method": "awq", "zero_point": true,
    "q_group_size": 128, "w_bit": 4, "version": "gemm", "modules_to_not_convert": ["l.0.o", "lm_head"]})"));
  for (const auto& content : {config, files[1].second}) {
    const AwqConfig read = parse_awq_config(content, "c");
    EXPECT_EQ(read.scheme, four);
    EXPECT_EQ(read.version, AwqVersion::gemm);
    EXPECT_TRUE(read.skips("l.0.o"));
    EXPECT_FALSE(read.skips("l.0.q"));
  }
}

/// Names of modules outside the blocks are expressions (ModelGraph::untouched).
TEST(AwqConfig, ExpressionsBecomeWhatConsumersLookFor) {
  const Scheme four{"int", 4, 128, false};
  const std::vector<PlannedLinear> linears = {{"l.0.q", 8, 256, four, DType::F16}};
  const auto config = awq_target().quantization_config(linears, {"lm_head", "re:.*vision_tower.*"});
  EXPECT_EQ(config["modules_to_not_convert"],
            nlohmann::json({"lm_head", ".*vision_tower.*", "vision_tower"}));
  EXPECT_EQ(config["dynamic"], nlohmann::json::parse(R"({"-:.*vision_tower.*": {}})"));
  EXPECT_TRUE(parse_awq_config(config, "c").skips("model.vision_tower.layers.0.q"));
}

}  // namespace
}  // namespace lathe
