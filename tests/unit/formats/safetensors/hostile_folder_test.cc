// Folders whose config, index and shards contradict each other or aren't there.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <functional>

#include "tests/unit/formats/safetensors/checkpoint_files.h"

namespace lathe::test {
namespace {

constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kFirst = "model-00001-of-00002.safetensors";
constexpr const char* kSecond = "model-00002-of-00002.safetensors";

struct HostileFolder {
  const char* name;
  std::function<void(const fs::path&)> damage;
  std::string file;    // named by the message
  std::string wanted;  // part of the message
};

void PrintTo(const HostileFolder& row, std::ostream* out) { *out << row.name; }

std::string index_of(const nlohmann::json& weight_map) {
  return nlohmann::json{{"metadata", {{"total_size", 24}}}, {"weight_map", weight_map}}.dump();
}

/// config.json, an index and two shards with the tensors 'a' and 'b'.
void put_sharded(const fs::path& folder) {
  put(folder / "config.json", R"({"model_type":"llama"})");
  put(folder / kIndex, index_of({{"a", kFirst}, {"b", kSecond}}));
  put(folder / kFirst, shard_of({"a"}));
  put(folder / kSecond, shard_of({"b"}));
}

auto contents(const char* file, std::string text) {
  return [=](const fs::path& folder) { put(folder / file, text); };
}
auto weight_map(nlohmann::json map) { return contents(kIndex, index_of(map)); }
/// 'b' is said to lie in this file.
auto shard_named(const std::string& file) { return weight_map({{"a", kFirst}, {"b", file}}); }
auto without(std::vector<std::string> files) {
  return [=](const fs::path& folder) {
    for (const std::string& file : files) fs::remove_all(folder / file);
  };
}
auto as_folder(const char* file) {
  return [=](const fs::path& folder) {
    fs::remove(folder / file);
    fs::create_directory(folder / file);
  };
}
auto as_pipe(const char* file) {
  return [=](const fs::path& folder) {
    fs::remove(folder / file);
    ASSERT_EQ(mkfifo((folder / file).c_str(), 0600), 0);
  };
}
auto as_dangling_link(const char* file) {
  return [=](const fs::path& folder) {
    fs::remove(folder / file);
    fs::create_symlink("nowhere", folder / file);
  };
}
std::string nested(size_t depth) {
  std::string text;
  for (size_t i = 0; i < depth; ++i) text += R"({"x":)";
  return text + "1" + std::string(depth, '}');
}

std::vector<HostileFolder> config_rows() {
  return {
      {"missing", without({"config.json"}), "config.json", "missing"},
      {"empty", contents("config.json", ""), "config.json", "not valid JSON"},
      {"text", contents("config.json", "hello"), "config.json", "not valid JSON"},
      {"cut_off", contents("config.json", R"({"model_type": "lla)"), "config.json",
       "not valid JSON near byte"},
      {"list", contents("config.json", "[]"), "config.json", "expected a JSON object, found array"},
      {"null", contents("config.json", "null"), "config.json", "expected a JSON object, found null"},
      {"not_utf8", contents("config.json", "{\"a\":\"\xE9\"}"), "config.json", "not valid UTF-8 at byte 6"},
      {"nul", contents("config.json", std::string("{}\0", 3)), "config.json", "a NUL at byte 2"},
      {"key_twice", contents("config.json", R"({"hidden_size":1,"hidden_size":2})"), "config.json",
       "the key 'hidden_size' stands twice"},
      {"nested_key_twice", contents("config.json", R"({"o":{"p":1},"q":{"p":1,"p":2}})"), "config.json",
       "the key 'p' stands twice"},
      {"deep", contents("config.json", nested(500'000)), "config.json", "nested deeper than 64 levels"},
      {"one_level_too_deep", contents("config.json", nested(65)), "config.json",
       "nested deeper than 64 levels"},
      {"over_16_MiB", contents("config.json", std::string((16 << 20) + 1, ' ')), "config.json",
       "at most 16777216"},
      {"folder", as_folder("config.json"), "config.json", "expected a regular file"},
      {"pipe", as_pipe("config.json"), "config.json", "expected a regular file"},
      {"dangling_link", as_dangling_link("config.json"), "config.json", "missing"},
  };
}

std::vector<HostileFolder> index_rows() {
  return {
      {"empty", contents(kIndex, ""), kIndex, "not valid JSON"},
      {"list", contents(kIndex, "[]"), kIndex, "expected a JSON object, found array"},
      {"not_utf8", contents(kIndex, "{\"\xFE\":1}"), kIndex, "not valid UTF-8"},
      {"no_weight_map", contents(kIndex, R"({"metadata":{}})"), kIndex, "has no 'weight_map'"},
      {"weight_map_list", contents(kIndex, R"({"weight_map":[]})"), kIndex,
       "expected an object, found array"},
      {"weight_map_empty", weight_map(nlohmann::json::object()), kIndex, "lists no tensor"},
      {"file_number", weight_map({{"a", 1}}), kIndex, "'a': expected a file name, found number"},
      {"file_null", weight_map({{"a", nullptr}}), kIndex, "'a': expected a file name, found null"},
      {"tensor_twice",
       contents(
           kIndex,
           R"({"weight_map":{"a":"model-00001-of-00002.safetensors","a":"model-00002-of-00002.safetensors"}})"),
       kIndex, "the key 'a' stands twice"},
      {"file_empty", shard_named(""), kIndex, "in the same folder, found ''"},
      {"file_parent", shard_named("../x.safetensors"), kIndex, "found '../x.safetensors'"},
      {"file_absolute", shard_named("/etc/x.safetensors"), kIndex, "found '/etc/x.safetensors'"},
      {"file_subfolder", shard_named("sub/x.safetensors"), kIndex, "found 'sub/x.safetensors'"},
      {"file_backslash", shard_named("..\\x.safetensors"), kIndex, "in the same folder"},
      {"file_hidden", shard_named(".safetensors"), kIndex, "found '.safetensors'"},
      {"file_dots", shard_named(".."), kIndex, "found '..'"},
      {"file_with_nul", shard_named(std::string("x\0.safetensors", 14)), kIndex, "in the same folder"},
      {"file_with_newline", shard_named("x\n.safetensors"), kIndex, R"('x\n.safetensors')"},
      {"file_pickle", shard_named("pytorch_model.bin"), kIndex, "found 'pytorch_model.bin'"},
      {"file_of_5000_characters", shard_named(std::string(5000, 'x') + ".safetensors"), kIndex, "is missing"},
      {"shard_not_in_folder", shard_named("model-00003-of-00003.safetensors"), kIndex,
       "names the shard 'model-00003-of-00003.safetensors' (for 'b')"},
      {"shard_deleted", without({kSecond}), kIndex, "(for 'b'), which is missing"},
      {"shard_dangling_link", as_dangling_link(kSecond), kIndex, "is missing from the folder"},
      {"shard_is_folder", as_folder(kSecond), kSecond, "expected a regular file"},
      {"shard_is_pipe", as_pipe(kSecond), kSecond, "expected a regular file"},
      {"shard_empty", contents(kSecond, ""), kSecond, "too short for a safetensors file"},
      {"shard_truncated", contents(kSecond, shard_of({"b"}).substr(0, 70)), kSecond, "truncated"},
      {"tensor_not_in_its_shard", weight_map({{"a", kFirst}, {"b", kSecond}, {"c", kSecond}}), kIndex,
       "says that 'model-00002-of-00002.safetensors' holds tensor 'c', but it does not"},
      {"shards_swapped", weight_map({{"a", kSecond}, {"b", kFirst}}), kFirst,
       "holds tensor 'a', which model.safetensors.index.json assigns to 'model-00002-of-00002.safetensors'"},
      {"tensor_unknown_to_index", contents(kSecond, shard_of({"b", "c"})), kSecond,
       "holds tensor 'c', which model.safetensors.index.json doesn't list"},
      {"tensor_in_two_shards", contents(kSecond, shard_of({"a", "b"})), kSecond,
       "holds tensor 'a', which model.safetensors.index.json assigns to 'model-00001-of-00002.safetensors'"},
      {"index_is_folder", as_folder(kIndex), kIndex, "expected a regular file"},
      {"deep", contents(kIndex, nested(500'000)), kIndex, "nested deeper than 64 levels"},
  };
}

std::vector<HostileFolder> folder_rows() {
  return {
      {"both_single_and_index", contents("model.safetensors", shard_of({"a"})), kIndex, "holds both"},
      {"no_index", without({kIndex}), kFirst, "neither model.safetensors nor"},
      {"no_weights", without({kIndex, kFirst, kSecond}), kIndex, "expected a Hugging Face model folder"},
      {"gguf_only",
       [](const fs::path& folder) {
         without({kIndex, kFirst, kSecond})(folder);
         put(folder / "model.gguf", "GGUF");
       },
       "model.gguf", "expected a whole safetensors checkpoint"},
      {"pickle_only",
       [](const fs::path& folder) {
         without({kIndex, kFirst, kSecond})(folder);
         put(folder / "pytorch_model.bin", "PK");
       },
       "pytorch_model.bin", "expected a whole safetensors checkpoint"},
  };
}

class HostileFolderTest : public testing::TestWithParam<HostileFolder> {};

TEST_P(HostileFolderTest, IsRefusedInOneLineThatNamesTheFile) {
  const TemporaryFolder folder;
  put_sharded(folder.path());
  ASSERT_NO_THROW(Checkpoint::open(folder.path())) << "the undamaged folder must open";
  GetParam().damage(folder.path());
  check_message(open_error(folder.path()), GetParam().file, GetParam().wanted);
}

const auto kRowName = [](const auto& info) { return std::string(info.param.name); };
INSTANTIATE_TEST_SUITE_P(Config, HostileFolderTest, testing::ValuesIn(config_rows()), kRowName);
INSTANTIATE_TEST_SUITE_P(Index, HostileFolderTest, testing::ValuesIn(index_rows()), kRowName);
INSTANTIATE_TEST_SUITE_P(Folder, HostileFolderTest, testing::ValuesIn(folder_rows()), kRowName);

TEST(HostileFolderTest, PathThatIsNoFolder) {
  const TemporaryFolder folder;
  check_message(open_error(folder / "absent"), "absent", "does not exist");
  put(folder / "model.gguf", "GGUF");
  check_message(open_error(folder / "model.gguf"), "model.gguf", "is not a folder");
  EXPECT_THROW(Checkpoint::open(folder / std::string(5000, 'x')), UserError);
}

}  // namespace
}  // namespace lathe::test
