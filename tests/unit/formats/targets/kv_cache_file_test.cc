// The file of a KV cache below 8 bits: written, read back, and refused where it isn't the model's or is
// broken.
#include "formats/targets/kv_cache_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/targets/model_folder.h"
#include "lib/base/error.h"
#include "lib/numeric/kv_cache_methods.h"
#include "tests/unit/formats/targets/artefact_fixture.h"

namespace lathe {
namespace {

using test::Artefact;
using ::testing::HasSubstr;

KvCacheScheme small_kivi() {
  KvCacheScheme scheme = find_kv_cache_method("kivi")->defaults;
  scheme.group_size = 16;
  scheme.window = 32;
  return scheme;
}

KvCacheLayers layers_of(const Artefact& made, const KvCacheQuantizer& layer) {
  KvCacheLayers cache{layer.scheme, {}};
  for (const Block& block : made.graph.blocks) cache.layers[block.prefix + ".self_attn"] = layer;
  return cache;
}

/// An artefact with such a cache in a folder.
struct Cached {
  explicit Cached(const KvCacheQuantizer& layer = {small_kivi()}) {
    made.pack([](const Linear&) { return Scheme{"int", 4, 32, true}; });
    made.write(folder.path());
    const ModelFolder plain = open_model_folder(folder.path());
    write_kv_cache_file(folder.path(), layers_of(made, layer), made.graph, *plain.weights);
  }

  std::filesystem::path file() const { return folder.path() / kKvCacheFile; }
  std::string bytes() const { return read_text_file(file()); }
  std::string error() const {
    try {
      open_model_folder(folder.path());
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  }
  /// The error once `from`, which stands in the file, is `to`, of the same length.
  std::string error_with(const std::string& from, const std::string& to) const {
    const std::string before = bytes();
    std::string changed = before;
    const size_t place = changed.find(from);
    EXPECT_NE(place, std::string::npos) << from;
    EXPECT_EQ(from.size(), to.size());
    changed.replace(place, from.size(), to);
    write_file(file(), changed);
    const std::string said = error();
    write_file(file(), before);
    return said;
  }

  Artefact made;
  test::TemporaryFolder folder;
};

TEST(KvCacheFile, ReadsBackWhatWasWritten) {
  const Cached cached;
  const ModelFolder opened = open_model_folder(cached.folder.path());
  EXPECT_EQ(opened.kv_cache, small_kivi());
  for (const Block& block : opened.graph.blocks) {
    const auto layer = opened.weights->kv_cache(block.prefix + ".self_attn");
    ASSERT_TRUE(layer.has_value());
    EXPECT_TRUE(same_quantizer(*layer, {small_kivi()}));
  }
  EXPECT_FALSE(opened.weights->kv_cache("model.layers.7.self_attn").has_value());
}

TEST(KvCacheFile, SchemeHasEverySetting) {
  EXPECT_EQ(kv_cache_json(small_kivi()), nlohmann::json::parse(R"({"type": "kivi", "bits": 2, "value_bits": 2,
                                                                  "group_size": 16, "window": 32})"));
  EXPECT_EQ(kv_cache_json({"int"}), nlohmann::json::parse(R"({"type": "int", "bits": 8, "per": "tensor"})"));
  EXPECT_EQ(kv_cache_json({.type = "float", .per_head = true}),
            nlohmann::json::parse(R"({"type": "float", "bits": 8, "per": "head"})"));
}

TEST(KvCacheFile, IsNoWeightFileAndNoSideFile) {
  const Cached cached;
  const ModelFolder opened = open_model_folder(cached.folder.path());
  for (const auto& file : opened.checkpoint->side_files())
    EXPECT_EQ(file.string().find("kv_cache"), std::string::npos);
  EXPECT_EQ(opened.checkpoint->tensors().size(), cached.made.tensors.size());
}

TEST(KvCacheFile, GoesWithAFloatingPointModelToo) {
  const Cached cached;
  const Artefact plain;  // the same weights
  const test::TemporaryFolder folder;
  plain.write(folder.path());
  const ModelFolder model = with_kv_cache(open_model_folder(folder.path()), cached.file());
  EXPECT_EQ(model.kv_cache, small_kivi());
  EXPECT_TRUE(model.weights->kv_cache("model.layers.0.self_attn").has_value());
}

TEST(KvCacheFile, OfAnotherModelIsRefused) {
  Cached cached;
  const auto with = [&](const std::function<void(Artefact&)>& change, nlohmann::json config) {
    Artefact other(std::move(config));
    change(other);
    const test::TemporaryFolder folder;
    other.write(folder.path());
    return [&] {
      try {
        with_kv_cache(open_model_folder(folder.path()), cached.file());
      } catch (const UserError& error) {
        return std::string(error.what());
      }
      return std::string();
    }();
  };
  EXPECT_EQ(with([](Artefact&) {}, test::tiny_llama_config()), "");
  EXPECT_THAT(
      with([](Artefact& other) { other.tensors.at("model.norm.weight")[3] += 1; }, test::tiny_llama_config()),
      testing::AllOf(HasSubstr("kv_cache.safetensors: model is "),
                     HasSubstr("it was made for another model")));
  nlohmann::json config = test::tiny_llama_config();
  config["num_hidden_layers"] = 1;
  EXPECT_THAT(with([](Artefact&) {}, config),
              HasSubstr("layers is '2', but the model's is 1: it was made for"));
  config = test::tiny_llama_config();
  config["num_key_value_heads"] = 1;
  EXPECT_THAT(with([](Artefact&) {}, config), HasSubstr("kv_heads is '2', but the model's is 1"));
}

TEST(KvCacheFile, HostileOnes) {
  const Cached cached;
  EXPECT_EQ(cached.error(), "");
  const std::string name = cached.file().string();
  EXPECT_THAT(cached.error_with("lathe-kv-cache", "lathe-kv-cachE"),
              HasSubstr(name + ": format: expected lathe-kv-cache, found 'lathe-kv-cachE'"));
  EXPECT_THAT(cached.error_with(R"("version":"1")", R"("version":"2")"),
              HasSubstr("version: expected 1, found '2'"));
  EXPECT_THAT(cached.error_with(R"("head_dim":"16")", R"("head_DIM":"16")"),
              HasSubstr("has no key 'head_dim'"));
  const auto setting = [](const std::string& text) { return "\\\"" + text; };
  EXPECT_THAT(cached.error_with(setting("bits\\\":2"), setting("bits\\\":3")),
              HasSubstr(name + ": scheme.bits: expected 2 or 4, found '3'"));
  EXPECT_THAT(cached.error_with(setting("group_size\\\":16"), setting("group_size\\\":24")),
              HasSubstr("group_size 24 doesn't divide the head size, 16"));
  EXPECT_THAT(cached.error_with(setting("window\\\":32"), setting("window\\\":40")),
              HasSubstr("window 40 isn't a multiple of group_size 16"));
  EXPECT_THAT(cached.error_with(setting("window"), setting("windov")),
              HasSubstr("scheme: missing key 'window'"));
  EXPECT_THAT(cached.error_with("kivi", "kiwi"), HasSubstr("scheme.type: expected kivi"));
  const std::string whole = cached.bytes();
  for (const size_t length : {size_t{0}, size_t{5}, whole.size() / 2, whole.size() - 1}) {
    write_file(cached.file(), whole.substr(0, length));
    EXPECT_THAT(cached.error(), HasSubstr(name)) << length;
  }
}

TEST(KvCacheFile, BesideACacheInTheConfigIsRefused) {
  Cached cached;
  cached.made.config["quantization_config"]["kv_cache_scheme"] = {
      {"num_bits", 8}, {"type", "float"}, {"symmetric", true}, {"strategy", "tensor"}, {"dynamic", false}};
  for (const Block& block : cached.made.graph.blocks) {
    for (const char* scale : {".self_attn.k_scale", ".self_attn.v_scale"})
      cached.made.tensors[block.prefix + scale] = at::ones({1});
  }
  cached.made.write(cached.folder.path());
  EXPECT_THAT(cached.error(), HasSubstr("config.json has a KV cache, too (fp8 (e4m3) per tensor)"));
}

}  // namespace
}  // namespace lathe
