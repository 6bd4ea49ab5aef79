// A table of broken GGUF files, each field of the header in turn, through every command that takes a model:
// one line that names the file, whichever command it is.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "apps/quantize/convert.h"
#include "apps/quantize/inspect.h"
#include "apps/quantize/pipeline.h"
#include "formats/gguf/gguf_writer.h"
#include "formats/gguf/model_keys.h"
#include "formats/gguf/tensor_map.h"
#include "lib/base/error.h"
#include "lib/model/graph.h"
#include "tests/unit/formats/gguf/small_config.h"
#include "tests/unit/formats/targets/artefact_fixture.h"

namespace lathe {
namespace {

using test::TemporaryFolder;

struct BrokenFile {
  std::string what, bytes;
};

std::string bytes_in(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// A whole small llama of Q4_0 blocks of zeros, with keys of the tokenizer's kinds (an array of each).
std::string whole_model(const std::filesystem::path& folder) {
  const ModelGraph graph =
      build_graph(parse_model_config(test::small_config("llama", 40, 64, 1), "config.json"));
  GgufMetadata keys = model_keys(graph, "tiny", *find_mix("Q4_0"), 1000);
  keys.emplace_back("tokenizer.ggml.tokens", GgufArray(std::vector<std::string>{"a", "b"}));
  keys.emplace_back("tokenizer.ggml.scores", GgufArray(std::vector<float>{0, 1}));
  keys.emplace_back("tokenizer.ggml.add_bos_token", GgufBool::no);
  std::vector<GgufPlan> plans;
  for (const GgufTensorRule& rule : gguf_tensors(graph))
    plans.push_back({rule.gguf, rule.is_matrix() ? GgmlType::Q4_0 : GgmlType::F32, rule.file_shape()});
  GgufWriter writer(folder / "whole.gguf", keys, plans);
  for (const GgufPlan& plan : plans) writer.write(plan.name, std::vector<std::byte>(plan.bytes()));
  writer.finish();
  return bytes_in(writer.path());
}

/// Walks a header and notes where each field stands.
class Fields {
 public:
  struct Field {
    std::string what;
    size_t at = 0, bytes = 0;
    char kind = ' ';  // see breakages()
  };

  explicit Fields(const std::string& file) : file_(file) {
    note("magic", 4, 'm');
    note("version", 4, 'v');
    const auto tensors = note("tensor count", 8, 'n'), keys = note("key count", 8, 'n');
    for (uint64_t i = 0; i < keys; ++i) key();
    for (uint64_t i = 0; i < tensors; ++i) tensor();
  }
  const std::vector<Field>& all() const { return fields_; }

 private:
  uint64_t note(const std::string& what, size_t bytes, char kind) {
    fields_.push_back({what, at_, bytes, kind});
    uint64_t value = 0;
    std::memcpy(&value, file_.data() + at_, std::min<size_t>(bytes, 8));
    at_ += bytes;
    return value;
  }
  std::string text(const std::string& what) {
    const uint64_t length = note("length of " + what, 8, 'n');
    at_ += length;
    return file_.substr(at_ - length, length);
  }
  void key() {
    constexpr std::array<size_t, 13> kSizes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    const std::string name = text("a key");
    uint64_t type = note("type of " + name, 4, 't');
    uint64_t count = 1;
    if (type == 9) {
      type = note("element type of " + name, 4, 'e');
      count = note("count of " + name, 8, 'n');
    }
    for (uint64_t i = 0; i < count; ++i) {
      if (type == 8) {
        text("value of " + name);
      } else {
        at_ += kSizes[type];
      }
    }
  }
  void tensor() {
    const std::string name = text("a tensor's name");
    const uint64_t dimensions = note("dimensions of " + name, 4, 'd');
    for (uint64_t i = 0; i < dimensions; ++i) note("a size of " + name, 8, 's');
    note("type of tensor " + name, 4, 'g');
    note("offset of " + name, 8, 'o');
  }

  const std::string& file_;
  size_t at_ = 0;
  std::vector<Field> fields_;
};

/// Values that a field of this kind never has.
std::vector<uint64_t> breakages(char kind) {
  constexpr uint64_t kAll = std::numeric_limits<uint64_t>::max();
  switch (kind) {
    case 'm':  // magic
      return {0x46554747 ^ 1};
    case 'v':  // version
      return {0, 1, 2, 4, 0x03000000};
    case 'n':  // a count or length
      return {kAll, uint64_t{1} << 62, uint64_t{1} << 33};
    case 't':  // a value's type
      return {13, 0xFFFFFFFF};
    case 'e':  // an element's: arrays of arrays, too
      return {9, 13};
    case 'd':  // a number of dimensions
      return {0, 5, 0xFFFFFFFF};
    case 's':  // a size
      return {0, kAll, uint64_t{1} << 62, uint64_t{1} << 40};
    case 'g':  // a tensor's type: one that ggml took back, one of the future
      return {4, 200, 0xFFFFFFFF};
    case 'o':  // an offset: unaligned, beyond the file, wrapping round
      return {1, uint64_t{1} << 40, kAll - 31};
    default:
      return {};
  }
}

std::vector<BrokenFile> broken_files(const std::string& whole) {
  std::vector<BrokenFile> table;
  const Fields fields(whole);
  std::map<std::string, int> seen;
  for (const Fields::Field& field : fields.all()) {
    // Of many fields of one kind, such as lengths of keys, the first four.
    if (++seen[std::string(1, field.kind) + field.what.substr(0, 6)] > 4) continue;
    for (const uint64_t value : breakages(field.kind)) {
      BrokenFile broken{fmt::format("{} at {}: {:#x}", field.what, field.at, value), whole};
      std::memcpy(broken.bytes.data() + field.at, &value, field.bytes);
      table.push_back(std::move(broken));
    }
    table.push_back({fmt::format("cut before {}", field.what), whole.substr(0, field.at)});
    table.push_back({fmt::format("cut within {}", field.what), whole.substr(0, field.at + field.bytes / 2)});
  }
  std::string twice = whole;
  twice.replace(twice.find("blk.0.attn_q.weight"), 19, "blk.0.attn_k.weight");
  table.push_back({"a tensor's name twice", twice});
  twice = whole;
  twice.replace(twice.find("llama.rope.freq_base"), 20, "llama.context_length");
  table.push_back({"a key twice", twice});
  table.push_back({"no tensors' bytes", whole.substr(0, whole.size() / 2)});
  return table;
}

/// The message of a command's refusal; nothing where it was content.
std::string refusal(const std::function<void()>& command) {
  try {
    command();
  } catch (const UserError& error) {
    return error.what();
  }
  return {};
}

TEST(BrokenGguf, EveryCommandSaysSoInOneLine) {
  const TemporaryFolder folder;
  const std::string whole = whole_model(folder.path());
  const std::vector<BrokenFile> table = broken_files(whole);
  EXPECT_GE(table.size(), 100u);
  const std::filesystem::path path = folder.path() / "broken.gguf";
  const std::map<std::string, std::function<void()>> commands = {
      {"inspect", [&] { inspect_folder({.folder = path, .json = true}); }},
      {"eval",
       [&] {
         EvalRequest request;
         request.model = path;
         request.text = LATHE_SOURCE_DIR "/LICENSE";
         run_eval(request);
       }},
      {"convert",
       [&] {
         ConvertRequest request;
         request.model = path;
         request.to = "gptq-v2";
         request.output = folder.path() / "out";
         request.quiet = true;
         run_convert(request);
       }},
      {"--model", [&] {
         RunRequest request;
         request.recipe = LATHE_SOURCE_DIR "/recipes/gguf.yaml";
         request.model = path;
         request.output = folder.path() / "out";
         request.sets = {"calibration=null", "evaluate=null"};
         request.device = "cpu";
         request.quiet = true;
         run_pipeline(request);
       }}};
  for (const BrokenFile& broken : table) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << broken.bytes;
    for (const auto& [name, command] : commands) {
      const std::string message = refusal(command);
      EXPECT_THAT(message, testing::HasSubstr("broken.gguf")) << name << ": " << broken.what;
      EXPECT_EQ(message.find('\n'), std::string::npos) << name << ": " << broken.what << ": " << message;
    }
    EXPECT_FALSE(std::filesystem::exists(folder.path() / "out")) << broken.what;
  }
  std::ofstream(path, std::ios::binary | std::ios::trunc) << whole;
  EXPECT_EQ(refusal(commands.at("inspect")), "") << "the whole file";
}

}  // namespace
}  // namespace lathe
