#include "apps/quantize/manifest.h"

#include <fmt/format.h>

#include <set>

#include "apps/quantize/dataset.h"
#include "formats/gguf/gguf_file.h"
#include "formats/safetensors/safetensors_header.h"
#include "formats/targets/gguf_folder.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/hash.h"

namespace lathe {

namespace fs = std::filesystem;

FileHashes hash_files(const fs::path& folder) {
  static const std::set<std::string> kReports = {"report.json", "report.md", "report.html"};
  FileHashes result;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().lexically_relative(folder).generic_string();
    if (!entry.is_regular_file() || name == "manifest.json") continue;
    nlohmann::json& place = kReports.contains(name) ? result.reports : result.files;
    place[name] = {{"bytes", entry.file_size()}, {"hash", content_hash_of_file(entry.path())}};
  }
  return result;
}

namespace {

void hash_shard(const fs::path& path, nlohmann::json& hashes) {
  const MappedFile file = MappedFile::open(path);
  for (const StoredTensor& tensor : parse_safetensors_header(file.bytes(), path.string()).tensors) {
    hashes[tensor.name] =
        content_hash_in_pieces(file.bytes().subspan(tensor.begin, tensor.end - tensor.begin),
                               [&](auto piece) { file.release(piece); });
  }
}

void hash_gguf(const fs::path& path, nlohmann::json& hashes) {
  const GgufFile file = GgufFile::open(path);
  for (const GgufTensor& tensor : file.tensors())
    hashes[tensor.name] =
        content_hash_in_pieces(tensor.bytes, [&](auto piece) { file.release(tensor, piece); });
}

/// Where `found` is not what `expected` is, by key; values are compared as they are.
void compare_hashes(const nlohmann::json& expected, const nlohmann::json& found, const char* what,
                    Findings& findings) {
  const auto shown = [](const nlohmann::json& value) {
    const auto hash = value.is_object() ? value.find("hash") : value.end();
    return hash != value.end() && hash->is_string() ? hash->get<std::string>() : value.dump();
  };
  for (const auto& [name, value] : expected.items()) {
    if (!found.contains(name)) {
      findings.push_back({check::manifest, name, fmt::format("a {}, {}", what, shown(value)), "none"});
    } else if (found.at(name) != value) {
      findings.push_back({check::manifest, name, shown(value), shown(found.at(name))});
    }
  }
  for (const auto& [name, value] : found.items()) {
    if (!expected.contains(name))
      findings.push_back({check::manifest, name, fmt::format("no such {}", what), shown(value)});
  }
}

}  // namespace

nlohmann::json hash_tensors(const fs::path& folder) {
  nlohmann::json hashes = nlohmann::json::object();
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_regular_file() && entry.path().extension() == ".safetensors")
      hash_shard(entry.path(), hashes);
  }
  if (!hashes.empty()) return hashes;
  if (const auto gguf = find_gguf_model(folder)) hash_gguf(*gguf, hashes);
  return hashes;
}

Findings check_manifest(const fs::path& folder, const nlohmann::json& manifest) {
  const auto section = [&](const char* key) {
    const nlohmann::json value = manifest.value(key, nlohmann::json::object());
    if (!value.is_object())
      user_error("{}: {}: expected an object, found {}", (folder / "manifest.json").string(), key,
                 value.type_name());
    return value;
  };
  Findings findings;
  const FileHashes found = hash_files(folder);
  compare_hashes(section("files"), found.files, "file", findings);
  compare_hashes(section("reports"), found.reports, "file", findings);
  if (findings.empty() || section("tensors").empty()) return findings;
  try {
    compare_hashes(section("tensors"), hash_tensors(folder), "tensor", findings);
  } catch (const UserError& error) {
    findings.push_back(
        {check::manifest, folder.filename().string(), "weight files that can be read", error.what()});
  }
  return findings;
}

void write_manifest(const std::filesystem::path& folder, const Recipe& recipe, const CalibrationSet& data) {
  const FileHashes hashes = hash_files(folder);
  const nlohmann::json manifest = {
      {"schema", kManifestSchema},
      {"lathe", LATHE_VERSION},
      {"recipe", recipe.to_json()},
      {"dataset", recipe.calibration.none ? nlohmann::json() : dataset_json(recipe.calibration, data)},
      {"tensors", hash_tensors(folder)},
      {"files", hashes.files},
      {"reports", hashes.reports}};
  write_file(folder / "manifest.json",
             manifest.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

}  // namespace lathe
