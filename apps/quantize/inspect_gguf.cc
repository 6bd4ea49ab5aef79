#include "apps/quantize/inspect_gguf.h"

#include <fmt/format.h>

#include <map>

#include "formats/consumers/consumers.h"
#include "formats/gguf/gguf_file.h"
#include "formats/targets/gguf_folder.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"

namespace lathe {
namespace {

using nlohmann::ordered_json;

struct TypeTotals {
  int64_t tensors = 0, weights = 0;
  uint64_t bytes = 0;
};

double bits_each(uint64_t bytes, int64_t weights) {
  return weights == 0 ? 0.0 : 8.0 * static_cast<double>(bytes) / static_cast<double>(weights);
}

std::string text_of(const GgufFile& file, const std::string& key) {
  const GgufValue* value = file.find(key);
  return value == nullptr ? std::string() : describe(*value);
}

/// Why Lathe can't run it; empty where it can.
std::string trouble_of(const std::filesystem::path& path) {
  try {
    open_gguf_model(path);
  } catch (const UserError& error) {
    return error.what();
  }
  return {};
}

void add_tensors(const GgufFile& file, ordered_json& result) {
  std::map<std::string, TypeTotals> types;
  int64_t parameters = 0;
  uint64_t bytes = 0;
  result["tensors"] = ordered_json::array();
  for (const GgufTensor& tensor : file.tensors()) {
    const std::string type(traits(tensor.type).name);
    result["tensors"].push_back(
        {{"name", tensor.name}, {"dtype", type}, {"shape", tensor.shape}, {"bytes", tensor.bytes.size()}});
    TypeTotals& totals = types[type];
    totals.tensors += 1;
    totals.weights += tensor.numel();
    totals.bytes += tensor.bytes.size();
    parameters += tensor.numel();
    bytes += tensor.bytes.size();
  }
  result["tensor_count"] = file.tensors().size();
  result["bytes"] = bytes;
  result["parameters"] = parameters;
  result["bits_per_weight"] = bits_each(bytes, parameters);
  result["types"] = ordered_json::array();
  for (const auto& [type, totals] : types) {
    result["types"].push_back({{"type", type},
                               {"tensors", totals.tensors},
                               {"weights", totals.weights},
                               {"bytes", totals.bytes},
                               {"bits_per_weight", bits_each(totals.bytes, totals.weights)}});
  }
}

}  // namespace

ordered_json describe_gguf(const std::filesystem::path& path) {
  const GgufFile file = GgufFile::open(path);
  ordered_json result = {{"folder", path.string()}, {"model_type", text_of(file, "general.architecture")}};
  const std::string trouble = trouble_of(path);
  result["supported"] = trouble.empty();
  if (!trouble.empty()) result["reason"] = trouble;
  add_tensors(file, result);
  result["consumers"] = ordered_json::array();
  if (trouble.empty()) {
    std::vector<GgufTypeOf> types;
    for (const GgufTensor& tensor : file.tensors()) types.push_back({tensor.name, tensor.type});
    for (const ConsumerVerdict& verdict : judge_gguf(types))
      result["consumers"].push_back({{"consumer", verdict.consumer}, {"text", verdict.describe()}});
  }
  result["keys"] = ordered_json::object();
  for (const auto& [key, value] : file.metadata()) result["keys"][key] = describe(value);
  return result;
}

std::string gguf_lines(const ordered_json& described) {
  std::string text =
      fmt::format("family: {}{}\n", described["model_type"].get<std::string>(),
                  described["supported"].get<bool>()
                      ? ""
                      : " (Lathe can't run this: " + described["reason"].get<std::string>() + ")");
  for (const auto& [key, value] : described["keys"].items())
    text += fmt::format("key: {} = {}\n", key, value.get<std::string>());
  for (const ordered_json& row : described["types"]) {
    text += fmt::format("type: {}: {} tensors, {} weights, {}, {:.3f} bits/weight\n",
                        row["type"].get<std::string>(), row["tensors"].get<int64_t>(),
                        row["weights"].get<int64_t>(), human_bytes(row["bytes"].get<uint64_t>()),
                        row["bits_per_weight"].get<double>());
  }
  for (const ordered_json& row : described["consumers"])
    text += fmt::format("consumer: {}\n", row["text"].get<std::string>());
  return text + fmt::format("in all: {} parameters, {:.3f} bits/weight\n",
                            described["parameters"].get<int64_t>(),
                            described["bits_per_weight"].get<double>());
}

}  // namespace lathe
