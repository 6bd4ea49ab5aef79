// Scales of a KV cache in compressed-tensors' artefacts.
#include "formats/targets/kv_cache_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/targets/model_folder.h"
#include "formats/targets/packed_reader.h"
#include "lib/base/error.h"
#include "tests/unit/formats/targets/artefact_fixture.h"

namespace lathe {
namespace {

using Json = nlohmann::json;
using test::Artefact;
using ::testing::HasSubstr;

const KvCacheQuantizer kScales{{}, {0.0625f}, {0.02f}};
const KvCacheQuantizer kHeadScales{{.per_head = true}, {0.0625f, 0.5f}, {0.02f, 3.0f}};
const std::string kKey = "model.layers.1.self_attn.k_scale";

Artefact artefact(const KvCacheQuantizer& scales = kScales) {
  Artefact made;
  made.pack([](const Linear&) { return Scheme{"int", 4, 32, true}; });
  compressed_tensors_kv_cache().describe(scales.scheme, made.config["quantization_config"]);
  for (const Block& block : made.graph.blocks) {
    for (const auto& [name, tensor] : compressed_tensors_kv_cache().pack(block.prefix + ".self_attn", scales))
      made.tensors[name] = tensor;
  }
  return made;
}

std::string error_of(const Artefact& made) {
  const test::TemporaryFolder folder;
  made.write(folder.path());
  try {
    const ModelFolder opened = open_model_folder(folder.path());
    for (const Block& block : opened.graph.blocks) opened.weights->kv_cache(block.prefix + ".self_attn");
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

// compressed-tensors 0.20's own preset, as it writes it to config.json.
const char* kPreset = R"({"num_bits": 8, "type": "float", "symmetric": true, "group_size": null,
                          "strategy": "tensor", "dynamic": false})";

TEST(KvCacheFormat, SchemeIsTheLibrarys) {
  Json config;
  compressed_tensors_kv_cache().describe({}, config);
  Json preset = Json::parse(kPreset);
  EXPECT_EQ(parse_kv_cache_scheme(preset, "c"), KvCacheScheme{});
  preset.erase("group_size");  // absent or null
  EXPECT_EQ(config["kv_cache_scheme"], preset);
  EXPECT_EQ(parse_kv_cache_scheme(nullptr, "c"), std::nullopt);
  preset["strategy"] = "attn_head";
  EXPECT_EQ(parse_kv_cache_scheme(preset, "c"), KvCacheScheme{.per_head = true});
  compressed_tensors_kv_cache().describe({.per_head = true}, config);
  EXPECT_EQ(config["kv_cache_scheme"], preset);
}

TEST(KvCacheFormat, LayoutPromisesWhatPackDelivers) {
  for (const KvCacheQuantizer* scales : {&kScales, &kHeadScales}) {
    const auto planned = compressed_tensors_kv_cache().layout("a", scales->scheme, {.heads = 2});
    const auto packed = compressed_tensors_kv_cache().pack("a", *scales);
    ASSERT_EQ(planned.size(), packed.size());
    for (size_t i = 0; i < planned.size(); ++i) {
      EXPECT_EQ(planned[i].name, packed[i].first);
      EXPECT_EQ(planned[i].info, info_of(packed[i].second));
    }
  }
}

TEST(KvCacheFormat, ReadsBackWhatWasWritten) {
  for (const KvCacheQuantizer* scales : {&kScales, &kHeadScales}) {
    const Artefact made = artefact(*scales);
    const test::TemporaryFolder folder;
    made.write(folder.path());
    const ModelFolder opened = open_model_folder(folder.path());
    const auto found = opened.weights->kv_cache("model.layers.1.self_attn");
    ASSERT_TRUE(found.has_value());
    EXPECT_TRUE(same_quantizer(*found, *scales));
    EXPECT_EQ(opened.packed->kv_cache_scheme(), scales->scheme);
    EXPECT_FALSE(opened.packed->unpacked_tensors().contains(kKey));
    EXPECT_FALSE(opened.weights->kv_cache("model.layers.1.mlp").has_value());
  }
}

TEST(KvCacheFormat, ScalesOfHeadsAreAsManyAsHeads) {
  Artefact made = artefact(kHeadScales);
  made.tensors[kKey] = at::ones({4, 1, 1});
  EXPECT_THAT(error_of(made),
              HasSubstr("expected a number for each KV head (F32 [2, 1, 1]), found F32 [4, 1, 1]"));
  made.tensors[kKey] = at::tensor({1.0f, 0.0f}).view({2, 1, 1});
  EXPECT_THAT(error_of(made), HasSubstr("the scale is 0: expected a positive number"));
}

TEST(KvCacheFormat, SaysWhichConsumersDoNot) {
  EXPECT_EQ(compressed_tensors_kv_cache().warning({}), std::nullopt);
  EXPECT_THAT(compressed_tensors_kv_cache().warning({.per_head = true}).value_or(""),
              HasSubstr("FlashAttention"));
  EXPECT_THAT(compressed_tensors_kv_cache().warning({"int", 8}).value_or(""), HasSubstr("not int"));
}

TEST(KvCacheFormat, ModeloptHasOneScaleOnly) {
  EXPECT_THAT(modelopt_kv_cache().refuses({.per_head = true}).value_or(""),
              HasSubstr("one scale for all heads"));
  EXPECT_EQ(modelopt_kv_cache().refuses({}), std::nullopt);
}

TEST(KvCacheFormat, OtherTypesOfOneNumberAreFine) {
  Artefact made = artefact();
  made.tensors[kKey] = at::full({}, 0.5, at::kBFloat16);
  EXPECT_EQ(error_of(made), "");
}

TEST(KvCacheFormat, NamesWhatIsWrong) {
  const auto scheme = [](const char* key, Json value) {
    return [=](Artefact& a) { a.config["quantization_config"]["kv_cache_scheme"][key] = value; };
  };
  const auto put = [](at::Tensor tensor) { return [=](Artefact& a) { a.tensors[kKey] = tensor; }; };
  const std::vector<std::tuple<const char*, std::function<void(Artefact&)>, std::string>> cases = {
      {"missing", [](Artefact& a) { a.tensors.erase(kKey); }, "tensor '" + kKey + "' is missing"},
      {"zero", put(at::zeros({1})), kKey + "': the scale is 0: expected a positive number"},
      {"negative", put(at::full({1}, -1.0)), kKey + "': the scale is -1: expected a positive number"},
      {"NaN", put(at::full({1}, NAN)), kKey + "': the value at [0] is NaN"},
      {"infinite", put(at::full({1}, INFINITY)), kKey},
      {"one a head", put(at::ones({2, 1, 1})),
       kKey + "': expected one number (F32 [1]), found F32 [2, 1, 1]"},
      {"integer", put(at::ones({1}, at::kInt)), kKey + "': expected one number (F32 [1]), found I32 [1]"},
      {"bits", scheme("num_bits", 4), "kv_cache_scheme.num_bits: expected 8, found '4'"},
      {"type", scheme("type", "fp8"), "kv_cache_scheme.type: expected float or int"},
      {"zero points", scheme("symmetric", false), "kv_cache_scheme.symmetric: expected true"},
      {"strategy", scheme("strategy", "channel"), "kv_cache_scheme.strategy: expected tensor or attn_head"},
      {"heads", scheme("strategy", "attn_head"),
       "k_scale': expected a number for each KV head (F32 [2, 1, 1]), found F32 [1]"},
      {"dynamic", scheme("dynamic", true), "kv_cache_scheme.dynamic: expected false"},
      {"groups", scheme("group_size", 64), "kv_cache_scheme.group_size: expected null"},
      {"key", scheme("bits", 8), "kv_cache_scheme: unknown key 'bits'"},
      {"no object", [](Artefact& a) { a.config["quantization_config"]["kv_cache_scheme"] = 8; },
       "kv_cache_scheme: expected an object"}};
  for (const auto& [name, damage, message] : cases) {
    Artefact made = artefact();
    damage(made);
    EXPECT_THAT(error_of(made), HasSubstr(message)) << name;
  }
}

}  // namespace
}  // namespace lathe
