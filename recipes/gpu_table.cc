#include "recipes/gpu_table.h"

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

#include "lib/base/error.h"
#include "lib/base/strings.h"

namespace lathe {
namespace data {
extern const std::string_view kGpus;  // data/gpus.json
}  // namespace data

namespace {

struct GpuTable {
  std::vector<GpuGeneration> generations;
  std::vector<ServedCache> caches;
  std::vector<Gpu> gpus;
};

const GpuTable& table() {
  static const GpuTable known = [] {
    const auto json = nlohmann::json::parse(data::kGpus);
    GpuTable all;
    for (const auto& row : json.at("generations"))
      all.generations.push_back({row.at("name"), row.at("native"), row.at("source"), row.value("note", "")});
    for (const auto& row : json.at("kv_caches"))
      all.caches.push_back({row.at("bits"), row.at("type"), row.at("server"), row.at("how"),
                            row.at("generations"), row.at("source")});
    for (const auto& row : json.at("gpus"))
      all.gpus.push_back({row.at("name"), row.at("class"), row.at("generation"),
                          row.at("memory_gb").get<uint64_t>() * 1'000'000'000,
                          row.at("bandwidth_gb_s").get<double>() * 1e9, row.at("source")});
    return all;
  }();
  return known;
}

/// Lower case, letters and digits alone, without the maker's names.
std::vector<std::string> words_of(std::string_view name) {
  std::vector<std::string> words = {""};
  for (const char c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) {
      words.emplace_back();
    } else {
      words.back() += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  std::erase_if(
      words, [](const std::string& word) { return word.empty() || word == "nvidia" || word == "geforce"; });
  return words;
}

std::string plain(std::string_view name) {
  std::string text;
  for (const std::string& word : words_of(name)) text += word;
  return text;
}

/// Are these whole words of the name, side by side? "H20" is no part of "H200".
bool holds_words(std::string_view name, const std::string& wanted) {
  const std::vector<std::string> words = words_of(name);
  for (size_t first = 0; first < words.size(); ++first) {
    std::string joined;
    for (size_t last = first; last < words.size() && joined.size() < wanted.size(); ++last)
      joined += words[last];
    if (joined == wanted) return true;
  }
  return false;
}

std::vector<std::string> names_of(const std::vector<const Gpu*>& some) {
  std::vector<std::string> names;
  for (const Gpu* gpu : some) names.push_back(gpu->name);
  return names;
}

}  // namespace

bool GpuGeneration::computes(std::string_view format) const {
  return std::ranges::find(native, format) != native.end();
}

bool ServedCache::runs_on(const Gpu* gpu) const {
  return gpu == nullptr || std::ranges::find(generations, gpu->generation) != generations.end();
}

const std::vector<GpuGeneration>& gpu_generations() { return table().generations; }
const std::vector<ServedCache>& served_caches() { return table().caches; }
const std::vector<Gpu>& gpus() { return table().gpus; }

const GpuGeneration& find_generation(std::string_view name) {
  const auto found = std::ranges::find(gpu_generations(), name, &GpuGeneration::name);
  LATHE_ASSERT(found != gpu_generations().end(), "gpus.json: no generation '{}'", name);
  return *found;
}

const Gpu& find_gpu(std::string_view name) {
  const std::string wanted = plain(name);
  std::vector<const Gpu*> all, fitting;
  for (const Gpu& gpu : gpus()) {
    if (plain(gpu.name) == wanted) return gpu;
    all.push_back(&gpu);
    if (!wanted.empty() && holds_words(gpu.name, wanted)) fitting.push_back(&gpu);
  }
  if (fitting.size() == 1) return *fitting.front();
  if (!fitting.empty())
    user_error("--gpu: '{}' may be {}: give the whole name", name, join_words(names_of(fitting)));
  user_error("--gpu: unknown GPU '{}'{}; known are {}; any other by its memory: --vram 24GB", name,
             did_you_mean(name, names_of(all)), join_words(names_of(all)));
}

}  // namespace lathe
