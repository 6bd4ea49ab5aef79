#include "formats/safetensors/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "tests/unit/formats/safetensors/checkpoint_files.h"

namespace lathe::test {
namespace {

using testing::ElementsAre;

std::string text_of(const TensorView& view) {
  return {reinterpret_cast<const char*>(view.bytes.data()), view.bytes.size()};
}

TEST(Checkpoint, ViewsTheBytesOfASingleFile) {
  const TemporaryFolder folder;
  put(folder / "config.json", R"({"hidden_size":64})");
  put(folder / "model.safetensors",
      shard_file(
          R"({"__metadata__":{"format":"pt"},"late":{"dtype":"U8","shape":[2,2],"data_offsets":[6,10]},)"
          R"("early":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]}})",
          10));
  const Checkpoint checkpoint = Checkpoint::open(folder.path());

  EXPECT_EQ(checkpoint.folder(), folder.path());
  EXPECT_EQ(checkpoint.config().at("hidden_size"), 64);
  EXPECT_EQ(checkpoint.total_bytes(), 10u);
  EXPECT_EQ(checkpoint.tensors().size(), 2u);
  EXPECT_EQ(checkpoint.tensors().at("early"), (TensorInfo{DType::BF16, {3}}));
  EXPECT_EQ(text_of(checkpoint.view("early")), "ABCDEF");
  EXPECT_EQ(text_of(checkpoint.view("late")), "GHIJ");
  EXPECT_EQ(checkpoint.view("late").info, (TensorInfo{DType::U8, {2, 2}}));
  EXPECT_EQ(checkpoint.file_of("late"), "model.safetensors");
}

TEST(Checkpoint, ReadsEveryDtypeOfTheTable) {
  const TemporaryFolder folder;
  put(folder / "config.json", "{}");
  for (const char* name : {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "I64", "I32", "I16",
                           "I8", "U8", "BOOL"}) {
    const DType dtype = parse_dtype(name).value();
    const size_t bytes = traits(dtype).bytes * 3;
    const nlohmann::json header = {{"x", {{"dtype", name}, {"shape", {3}}, {"data_offsets", {0, bytes}}}}};
    put(folder / "model.safetensors", shard_file(header.dump(), bytes));
    EXPECT_EQ(Checkpoint::open(folder.path()).view("x").info, (TensorInfo{dtype, {3}})) << name;
  }
}

TEST(Checkpoint, FindsTensorsInTheirShards) {
  const TemporaryFolder folder;
  put(folder / "config.json", "{}");
  put(folder / "x.safetensors", shard_of({"a", "b"}));
  put(folder / "y.safetensors", shard_of({"c"}));
  put(folder / "model.safetensors.index.json",
      R"({"weight_map":{"a":"x.safetensors","b":"x.safetensors","c":"y.safetensors"}})");
  Checkpoint opened = Checkpoint::open(folder.path());
  const TensorView before = opened.view("b");
  const Checkpoint checkpoint = std::move(opened);

  EXPECT_EQ(checkpoint.file_of("b"), "x.safetensors");
  EXPECT_EQ(checkpoint.file_of("c"), "y.safetensors");
  EXPECT_EQ(text_of(checkpoint.view("b")), "MNOPQRSTUVWX");
  EXPECT_EQ(text_of(checkpoint.view("c")), "ABCDEFGHIJKL");
  EXPECT_EQ(checkpoint.total_bytes(), 36u);
  EXPECT_EQ(checkpoint.view("b").bytes.data(), before.bytes.data()) << "a move must not move the mapping";
}

TEST(Checkpoint, UnknownTensorNamesTheNearest) {
  const TemporaryFolder folder;
  put(folder / "config.json", "{}");
  put(folder / "model.safetensors", shard_of({"model.norm.weight", "lm_head.weight"}));
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  EXPECT_TRUE(checkpoint.contains("lm_head.weight"));
  EXPECT_FALSE(checkpoint.contains("model.norm.wieght"));
  try {
    checkpoint.view("model.norm.wieght");
    FAIL() << "was found";
  } catch (const UserError& error) {
    check_message(error.what(), folder.path().string(),
                  "'model.norm.wieght'; did you mean 'model.norm.weight'?");
  }
  EXPECT_THROW(checkpoint.file_of("x"), UserError);
}

TEST(Checkpoint, SideFilesAreThoseWithoutWeights) {
  const TemporaryFolder folder;
  put(folder / "config.json", "{}");
  put(folder / "model.safetensors", shard_of({"a"}));
  for (const char* kept : {"tokenizer.json", "tokenizer.model", "generation_config.json", "LICENSE",
                           "README.md", "chat_template.jinja", "special_tokens_map.json", "merges.txt"}) {
    put(folder / kept, "x");
  }
  for (const char* dropped : {"consolidated.safetensors", "pytorch_model.bin", "pytorch_model.bin.index.json",
                              "consolidated.00.pth", "m.pt", "ggml-model-Q4_K.gguf", "MODEL.GGUF",
                              "tf_model.h5", "flax_model.msgpack", "model.onnx", ".gitattributes"}) {
    put(folder / dropped, "x");
  }
  fs::create_directory(folder / "original");
  put(folder / "original" / "params.json", "{}");
  put(folder / "original" / "consolidated.00.pth", "x");
  fs::create_directories(folder / "additional_chat_templates" / ".hidden");
  put(folder / "additional_chat_templates" / "tool_use.jinja", "x");
  put(folder / "additional_chat_templates" / ".hidden" / "x", "x");
  for (const char* another : {"awq", "layouts"}) {  // a model of its own; kernels' layouts
    fs::create_directory(folder / another);
    put(folder / another / "config.json", "{}");
    put(folder / another / "layout.json", "{}");
  }
  fs::create_directory_symlink(folder / "original", folder / "linked");
  fs::create_symlink("tokenizer.json", folder / "vocab.json");  // as in the hub's cache
  fs::create_symlink("nowhere", folder / "dangling.json");

  std::vector<std::string> names;
  for (const fs::path& path : Checkpoint::open(folder.path()).side_files()) {
    names.push_back(path.lexically_relative(folder.path()).string());
  }
  EXPECT_THAT(names, ElementsAre("LICENSE", "README.md", "additional_chat_templates/tool_use.jinja",
                                 "chat_template.jinja", "generation_config.json", "merges.txt",
                                 "original/params.json", "special_tokens_map.json", "tokenizer.json",
                                 "tokenizer.model", "vocab.json"));
}

TEST(Checkpoint, LinksOfSideFilesStayInTheFolderOrInTheHubsCache) {
  const TemporaryFolder hub;
  const fs::path snapshots = hub / "snapshots", folder = snapshots / "0123";
  fs::create_directories(hub / "blobs");
  fs::create_directories(folder / "additional_chat_templates");
  put(hub / "blobs/abc", "{}");
  put(hub / "secret", "key");
  put(folder / "config.json", "{}");
  put(folder / "model.safetensors", shard_of({"a"}));
  fs::create_symlink("../../blobs/abc", folder / "tokenizer.json");
  EXPECT_EQ(Checkpoint::open(folder).side_files().size(), 1u);
  fs::create_directory_symlink(folder, hub / "main");
  EXPECT_EQ(Checkpoint::open(hub / "main").side_files().size(), 1u) << "a folder that is a link itself";

  const auto refused = [&](const fs::path& target, const fs::path& link) {
    fs::create_symlink(target, link);
    try {
      Checkpoint::open(folder).side_files();
      ADD_FAILURE() << link << " was followed to " << target;
    } catch (const UserError& error) {
      check_message(error.what(), link.filename().string(), "outside the model's folder");
    }
    fs::remove(link);
  };
  refused("../../secret", folder / "LICENSE");
  refused(hub / "secret", folder / "vocab.json");
  refused("../../../secret", folder / "additional_chat_templates/tool_use.jinja");
  refused("../../blobs/../secret", folder / "merges.txt");
  fs::create_symlink("../../secret", folder / ".hidden");
  refused(".hidden", folder / "LICENSE");
  fs::rename(snapshots, hub / "elsewhere");  // no cache any more
  EXPECT_THROW(Checkpoint::open(hub / "elsewhere/0123").side_files(), UserError);
}

// ---- A folder as large as a 70B Llama: real headers, holes for data.

struct SparseShard {
  nlohmann::json header = nlohmann::json::object();
  uint64_t bytes = 0;

  void add(const std::string& name, const std::vector<int64_t>& shape) {
    const uint64_t size = TensorInfo{DType::BF16, shape}.nbytes();
    header[name] = {{"dtype", "BF16"}, {"shape", shape}, {"data_offsets", {bytes, bytes + size}}};
    bytes += size;
  }
  void write(const fs::path& path) const {
    const std::string text = header.dump();
    put(path, length_bytes(text.size()) + text);
    fs::resize_file(path, 8 + text.size() + bytes);
  }
};

void add_llama_block(SparseShard& shard, int layer) {
  const std::string block = "model.layers." + std::to_string(layer) + ".";
  shard.add(block + "input_layernorm.weight", {8192});
  shard.add(block + "post_attention_layernorm.weight", {8192});
  shard.add(block + "self_attn.q_proj.weight", {8192, 8192});
  shard.add(block + "self_attn.k_proj.weight", {1024, 8192});
  shard.add(block + "self_attn.v_proj.weight", {1024, 8192});
  shard.add(block + "self_attn.o_proj.weight", {8192, 8192});
  shard.add(block + "mlp.gate_proj.weight", {28672, 8192});
  shard.add(block + "mlp.up_proj.weight", {28672, 8192});
  shard.add(block + "mlp.down_proj.weight", {8192, 28672});
}

void put_70b(const fs::path& folder) {
  constexpr int kShards = 30, kLayers = 80;
  std::vector<SparseShard> shards(kShards);
  for (int layer = 0; layer < kLayers; ++layer) add_llama_block(shards[layer * kShards / kLayers], layer);
  shards.front().add("model.embed_tokens.weight", {128256, 8192});
  shards.back().add("model.norm.weight", {8192});
  shards.back().add("lm_head.weight", {128256, 8192});
  nlohmann::json weight_map;
  for (int i = 0; i < kShards; ++i) {
    const std::string file = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, kShards);
    shards[i].write(folder / file);
    for (const auto& [name, tensor] : shards[i].header.items()) weight_map[name] = file;
  }
  put(folder / "model.safetensors.index.json", nlohmann::json{{"weight_map", weight_map}}.dump());
  put(folder / "config.json", R"({"model_type":"llama","num_hidden_layers":80})");
}

int64_t resident_bytes() {
  int64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

TEST(Checkpoint, Opens70BInMillisecondsAndMegabytes) {
  const TemporaryFolder folder;
  try {
    put_70b(folder.path());
  } catch (const fs::filesystem_error& error) {
    GTEST_SKIP() << "the temporary folder can't hold sparse files: " << error.what();
  }
  const int64_t before = resident_bytes();
  const Stopwatch watch;
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  const double seconds = watch.seconds();
  const int64_t grown = resident_bytes() - before;
  std::printf("70B-shaped folder: opened in %.1f ms, RSS grew by %.1f MB\n", seconds * 1e3, grown / 1e6);

  EXPECT_EQ(checkpoint.tensors().size(), 80u * 9 + 3);
  EXPECT_GT(checkpoint.total_bytes(), 141'000'000'000u);
  EXPECT_EQ(checkpoint.view("model.layers.79.mlp.down_proj.weight").bytes.size(), 2u * 8192 * 28672);
  EXPECT_LT(grown, 50'000'000);
  EXPECT_LT(seconds, 2.0) << "100 ms is what it should take; the rest is for busy machines";
}

}  // namespace
}  // namespace lathe::test
