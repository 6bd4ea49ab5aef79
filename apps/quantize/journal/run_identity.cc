#include "apps/quantize/journal/run_identity.h"

#include <ATen/ATen.h>
#include <ATen/Version.h>
#include <fmt/format.h>
#include <torch/headeronly/version.h>

#include <algorithm>
#include <iterator>
#include <set>

#include "formats/gguf/gguf_file.h"
#include "formats/gguf/gguf_split.h"
#include "lib/base/file.h"
#include "lib/base/hash.h"
#include "lib/tensor/device.h"
#include "lib/tensor/matrix_product.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kWhole = uint64_t{1} << 20;
constexpr uint64_t kPage = 4096;
constexpr uint64_t kPages = 64;

/// The first MiB, pages at even distances, the last one.
std::string sample_hash(const MappedFile& file) {
  const auto bytes = file.bytes();
  ContentHasher hasher;
  const auto add = [&](std::span<const std::byte> part) {
    hasher.add(part);
    file.release(part);
  };
  add(bytes.first(kWhole));
  const uint64_t step = (bytes.size() - kWhole) / kPages;
  for (uint64_t i = 0; i < kPages; ++i) {
    const uint64_t at = kWhole + i * step;
    add(bytes.subspan(at, std::min(kPage, bytes.size() - at)));
  }
  add(bytes.last(kPage));
  return hasher.text();
}

std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const bool hidden = entry.path().filename().string().starts_with(".");
    if (entry.is_regular_file() && !hidden) files.push_back(entry.path());
  }
  return files;
}

/// A folder may hold other models, too.
bool belongs_to(const fs::path& file, const std::string& model) {
  if (file.extension() != ".gguf") return true;
  return whole_name(file.stem().string()) == model;
}

void compare(const nlohmann::json& was, const nlohmann::json& is, const std::string& place,
             std::vector<std::string>& found) {
  if (was == is) return;
  const auto at = [](const nlohmann::json& json, const auto& key) {
    return json.contains(key) ? json.at(key) : nlohmann::json();
  };
  if (was.is_object() && is.is_object()) {
    std::set<std::string> keys;
    for (const auto* object : {&was, &is}) {
      for (const auto& [key, value] : object->items()) keys.insert(key);
    }
    for (const std::string& key : keys)
      compare(at(was, key), at(is, key), place.empty() ? key : place + "." + key, found);
  } else if (was.is_array() && is.is_array() && was.size() == is.size()) {
    for (size_t i = 0; i < was.size(); ++i) compare(was[i], is[i], fmt::format("{}[{}]", place, i), found);
  } else {
    const auto text = [](const nlohmann::json& json) {
      return json.is_null() ? "absent" : json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    };
    found.push_back(fmt::format("{} was {} and is {}", place, text(was), text(is)));
  }
}

}  // namespace

nlohmann::json file_identity(const fs::path& file) {
  const MappedFile mapped = MappedFile::open(file);
  const auto bytes = mapped.bytes();
  if (bytes.size() <= kWhole) return {{"bytes", bytes.size()}, {"hash", content_hash(bytes)}};
  return {{"bytes", bytes.size()},
          {"changed", fs::last_write_time(file).time_since_epoch().count()},
          {"sample", sample_hash(mapped)}};
}

nlohmann::json model_identity(const ModelFolder& model) {
  const fs::path folder = model.tokenizer_folder();
  std::vector<fs::path> files = files_in(folder);
  if (model.gguf != nullptr) {
    const std::string name = whole_name(model.gguf->path().stem().string());
    std::erase_if(files, [&](const fs::path& file) { return !belongs_to(file, name); });
  } else {
    std::ranges::copy(model.checkpoint->side_files(), std::back_inserter(files));  // of subfolders, too
  }
  nlohmann::json identity = nlohmann::json::object();
  for (const fs::path& file : files)
    identity[file.lexically_relative(folder).generic_string()] = file_identity(file);
  return identity;
}

nlohmann::json build_identity() {
  const fs::path program = fs::read_symlink("/proc/self/exe");
  nlohmann::json files = {{"program", content_hash_of_file("/proc/self/exe")}};
  for (const fs::path& file : files_in(program.parent_path())) {
    const std::string name = file.filename().string();
    if (name.starts_with("liblathe_")) files[name] = content_hash_of_file(file);
  }
  return {{"version", LATHE_VERSION},
          {"files", std::move(files)},
          {"libtorch", TORCH_VERSION},
          {"processor", device_model(c10::Device(c10::kCPU))},
          {"vector_code", at::get_cpu_capability()},
          {"matrix_products", describe_matrix_products()}};
}

nlohmann::json run_identity(const Recipe& recipe, const ModelFolder& model, const CalibrationSet& data,
                            const at::Tensor& evaluation, c10::Device device, DType compute,
                            std::optional<int64_t> micro_batch) {
  nlohmann::json asked = recipe.to_json();
  asked.erase("limits");
  asked["output"].erase("path");
  nlohmann::json identity = {{"build", build_identity()},
                             {"recipe", std::move(asked)},
                             {"model", model_identity(model)},
                             {"device", describe_device(device)},
                             {"device_model", device_model(device)},
                             {"compute_dtype", name_of(compute)}};
  if (data.ids.defined()) identity["calibration_ids"] = ids_hash(data.ids, data.lengths, data.token_weights);
  if (evaluation.defined()) identity["evaluation_ids"] = ids_hash(evaluation);
  if (!recipe.output.imatrix.empty()) identity["importance_matrix"] = file_identity(recipe.output.imatrix);
  if (micro_batch) identity["samples_together"] = *micro_batch;
  return identity;
}

std::vector<std::string> differences(const nlohmann::json& was, const nlohmann::json& is) {
  std::vector<std::string> found;
  compare(was, is, "", found);
  return found;
}

}  // namespace lathe
