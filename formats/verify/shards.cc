#include "formats/verify/shards.h"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "formats/safetensors/json_text.h"
#include "formats/safetensors/safetensors_header.h"
#include "lib/base/error.h"
#include "lib/base/file.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kSingle = "model.safetensors";
constexpr uint64_t kMaxIndexBytes = uint64_t{100} << 20;

/// What the files hold, and what was wrong with them.
struct Shards {
  std::map<std::string, std::string> file_of;  // by tensor
  uint64_t bytes = 0;
  Findings findings;

  void add(const fs::path& folder, const std::string& file) {
    try {
      const MappedFile mapped = MappedFile::open(folder / file);
      for (const StoredTensor& tensor :
           parse_safetensors_header(mapped.bytes(), (folder / file).string()).tensors) {
        bytes += tensor.end - tensor.begin;
        const auto [place, first] = file_of.emplace(tensor.name, file);
        if (!first)
          findings.push_back({check::files, tensor.name, "one of it", place->second + " and " + file});
      }
    } catch (const UserError& error) {
      findings.push_back({check::files, file, "a whole safetensors file", error.what()});
    }
  }
};

void compare_index(const nlohmann::json& index, Shards& shards) {
  std::set<std::string> listed;
  for (const auto& [name, file] : index.at("weight_map").items()) {
    listed.insert(name);
    const std::string named = file.is_string() ? file.get<std::string>() : file.dump();
    const auto found = shards.file_of.find(name);
    if (found == shards.file_of.end()) {
      shards.findings.push_back(
          {check::files, name, fmt::format("in {}, as the index says", named), "nowhere"});
    } else if (found->second != named) {
      shards.findings.push_back(
          {check::files, name, fmt::format("in {}, as the index says", named), "in " + found->second});
    }
  }
  for (const auto& [name, file] : shards.file_of) {
    if (!listed.contains(name))
      shards.findings.push_back({check::files, name, "in the index", "in " + file + " alone"});
  }
  const nlohmann::json size =
      index.value("metadata", nlohmann::json::object()).value("total_size", nlohmann::json());
  if (size != shards.bytes) {
    shards.findings.push_back({check::files, fmt::format("{}: metadata.total_size", kIndex),
                               std::to_string(shards.bytes), size.dump()});
  }
}

}  // namespace

Findings check_shards(const fs::path& folder) {
  std::set<std::string> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".safetensors")) files.insert(name);
  }
  Shards shards;
  for (const std::string& file : files) shards.add(folder, file);
  std::error_code ignored;
  if (!fs::exists(folder / kIndex, ignored)) {
    for (const std::string& file : files) {
      if (file != kSingle)
        shards.findings.push_back({check::files, file, fmt::format("{}, or shards with an index", kSingle),
                                   "a file that no index lists"});
    }
    return shards.findings;
  }
  try {
    const nlohmann::json index = read_json_object(folder / kIndex, kMaxIndexBytes);
    if (!index.contains("weight_map") || !index.at("weight_map").is_object()) {
      shards.findings.push_back({check::files, kIndex, "a weight_map", "none"});
      return shards.findings;
    }
    for (const auto& [name, file] : index.at("weight_map").items()) {
      const std::string named = file.is_string() ? file.get<std::string>() : file.dump();
      if (files.insert(named).second)
        shards.findings.push_back({check::files, name, "its file, " + named, "no such file"});
    }
    compare_index(index, shards);
  } catch (const UserError& error) {
    shards.findings.push_back({check::files, kIndex, "an index", error.what()});
  }
  return shards.findings;
}

}  // namespace lathe
