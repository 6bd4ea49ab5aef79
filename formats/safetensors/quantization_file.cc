#include "formats/safetensors/quantization_file.h"

#include "formats/safetensors/json_text.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kConfigFile = "config.json";
constexpr const char* kModeloptFile = "hf_quant_config.json";
constexpr const char* kKey = "quantization_config";
constexpr uint64_t kMaxBytes = uint64_t{16} << 20;

bool present(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

bool says_nothing(const json& config) {
  const auto own = config.find(kKey);
  return own == config.end() || own->is_null();
}

/// modelopt's older exports say it here alone, today's in config.json, too, but for the size of AWQ's groups.
bool add_modelopt(const fs::path& folder, json& config) {
  const fs::path path = folder / kModeloptFile;
  if (!present(path)) return false;
  const json file = read_json_object(path, kMaxBytes);
  const auto described = file.find("quantization");
  if (described == file.end() || !described->is_object()) return false;
  if (says_nothing(config)) {
    if (described->value("quant_algo", json()).is_null()) return false;  // nothing is quantised
    config[kKey] = {{"quant_method", "modelopt"}, {"quantization", *described}};
    return true;
  }
  json& own = config[kKey];
  if (own.is_object() && own.value("quant_method", json()) == "modelopt" && !own.contains("group_size") &&
      described->contains("group_size")) {
    own["group_size"] = described->at("group_size");
  }
  return false;
}

struct PackersFile {
  const char *name, *method;
};
/// vLLM 0.32: get_config_filenames() of auto_gptq.py and auto_awq.py; GPTQModel 7.7:
/// QUANT_CONFIG_FILENAME_COMPAT.
constexpr PackersFile kPackersFiles[] = {{"quantize_config.json", "gptq"}, {"quant_config.json", "awq"}};

}  // namespace

std::string add_quantization_file(const fs::path& folder, bool packed, json& config) {
  if (add_modelopt(folder, config)) return kModeloptFile;
  if (!packed || !says_nothing(config)) return kConfigFile;
  for (const PackersFile& file : kPackersFiles) {
    if (!present(folder / file.name)) continue;
    json content = read_json_object(folder / file.name, kMaxBytes);
    if (!content.contains("quant_method")) content["quant_method"] = file.method;
    config[kKey] = std::move(content);
    return file.name;
  }
  return kConfigFile;
}

}  // namespace lathe
