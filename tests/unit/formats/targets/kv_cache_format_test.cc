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

const KvCacheQuantizer kScales{{}, 0.0625f, 0.02f};
const std::string kKey = "model.layers.1.self_attn.k_scale";

Artefact artefact() {
  Artefact made;
  made.pack([](const Linear&) { return Scheme{"int", 4, 32, true}; });
  compressed_tensors_kv_cache().describe({}, made.config["quantization_config"]);
  for (const Block& block : made.graph.blocks) {
    for (const auto& [name, tensor] :
         compressed_tensors_kv_cache().pack(block.prefix + ".self_attn", kScales))
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
}

TEST(KvCacheFormat, LayoutPromisesWhatPackDelivers) {
  const auto planned = compressed_tensors_kv_cache().layout("a");
  const auto packed = compressed_tensors_kv_cache().pack("a", kScales);
  ASSERT_EQ(planned.size(), packed.size());
  for (size_t i = 0; i < planned.size(); ++i) {
    EXPECT_EQ(planned[i].name, packed[i].first);
    EXPECT_EQ(planned[i].info, info_of(packed[i].second));
  }
}

TEST(KvCacheFormat, ReadsBackWhatWasWritten) {
  const Artefact made = artefact();
  const test::TemporaryFolder folder;
  made.write(folder.path());
  const ModelFolder opened = open_model_folder(folder.path());
  const auto found = opened.weights->kv_cache("model.layers.1.self_attn");
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->k_scale, kScales.k_scale);
  EXPECT_EQ(found->v_scale, kScales.v_scale);
  EXPECT_EQ(opened.packed->kv_cache_scheme(), KvCacheScheme{});
  EXPECT_FALSE(opened.packed->unpacked_tensors().contains(kKey));
  EXPECT_FALSE(opened.weights->kv_cache("model.layers.1.mlp").has_value());
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
      {"heads", scheme("strategy", "attn_head"), "kv_cache_scheme.strategy: expected tensor"},
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
