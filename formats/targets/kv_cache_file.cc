#include "formats/targets/kv_cache_file.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "formats/safetensors/json_text.h"
#include "formats/safetensors/safetensors_header.h"
#include "formats/targets/strict_object.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/hash.h"
#include "lib/base/strings.h"
#include "lib/model/cached_attention.h"
#include "lib/model/forward.h"
#include "lib/numeric/kv_cache_methods.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* kFormat = "lathe-kv-cache";
constexpr const char* kVersion = "1";
constexpr int kSchemeDepth = 2;

using Metadata = std::map<std::string, std::string>;

std::string mark_of(const ModelGraph& graph, const WeightSource& weights) {
  const at::Tensor norm = weights.load(graph.final_norm().name + ".weight");
  return content_hash(bytes_of(norm));
}

/// What the file has to say of its model.
Metadata metadata_of(const KvCacheScheme& scheme, const ModelGraph& graph, const WeightSource& weights) {
  const KvCacheShape shape = kv_cache_shape(graph.config);
  return {{"format", kFormat},
          {"version", kVersion},
          {"scheme", kv_cache_json(scheme).dump()},
          {"layers", std::to_string(graph.blocks.size())},
          {"kv_heads", std::to_string(shape.heads)},
          {"head_dim", std::to_string(shape.head_dim)},
          {"model", mark_of(graph, weights)}};
}

double number_of(StrictObject& object, const KvCacheSetting& setting) {
  const json& value = object.need(setting.key, setting.expected().c_str());
  const bool right = std::holds_alternative<double KvCacheScheme::*>(setting.member)
                         ? value.is_number()
                         : value.is_number_integer();
  if (!right || !setting.allows(value.get<double>())) object.refuse(setting.key, setting.expected());
  return value;
}

KvCacheScheme parse_scheme(const std::string& text, const std::string& where) {
  const json parsed = parse_json_object(text, where, kSchemeDepth);
  StrictObject object(parsed, where);
  std::vector<std::string> types;
  for (const KvCacheMethod& method : kv_cache_methods()) types.push_back(method.defaults.type);
  const KvCacheMethod& method = *find_kv_cache_method(object.word("type", types));
  KvCacheScheme scheme = method.defaults;
  for (const KvCacheSetting& setting : method.settings) {
    std::visit(
        [&](auto member) {
          using Value = std::remove_reference_t<decltype(scheme.*member)>;
          if constexpr (std::is_same_v<Value, bool>) {
            scheme.*member = object.truth(setting.key);
          } else if constexpr (std::is_same_v<Value, KvCacheWeights>) {
            // Files of before it was said have the other.
            const std::string word = object.optional_word(setting.key, {"attention", "fisher"});
            scheme.*member = word == "fisher" ? KvCacheWeights::fisher : KvCacheWeights::attention;
          } else {
            scheme.*member = static_cast<Value>(number_of(object, setting));
          }
        },
        setting.member);
  }
  object.no_other_keys();
  return scheme;
}

/// One file, being read.
class Reader {
 public:
  explicit Reader(const fs::path& file)
      : name_(file.string()),
        mapped_(MappedFile::open(file)),
        header_(parse_safetensors_header(mapped_.bytes(), name_)) {}

  KvCacheLayers read(const ModelGraph& graph, const WeightSource& weights) {
    expect("format", kFormat);
    expect("version", kVersion);
    KvCacheLayers cache;
    cache.scheme = parse_scheme(value_of("scheme"), name_ + ": scheme");
    const KvCacheShape shape = kv_cache_shape(graph.config);
    for (const auto& [key, expected] : metadata_of(cache.scheme, graph, weights)) {
      if (key == "scheme" || value_of(key) == expected) continue;
      user_error("{}: {} is {}, but the model's is {}: it was made for another model", name_, key,
                 quote_text(value_of(key)), expected);
    }
    if (const auto reason = kv_cache_refuses(cache.scheme, shape))
      user_error("{}: scheme: {}", name_, *reason);
    for (const Block& block : graph.blocks) {
      const std::string attention = attention_module(block);
      if (!attention.empty()) cache.layers.emplace(attention, layer(attention, cache.scheme, shape));
    }
    for (const StoredTensor& tensor : header_.tensors) {
      const std::string module = tensor.name.substr(0, tensor.name.rfind('.'));
      if (!cache.layers.contains(module))
        user_error("{}: tensor {}: the model has no such layer", name_, quote_text(tensor.name));
    }
    return cache;
  }

 private:
  const std::string& value_of(const std::string& key) const {
    const auto found = header_.metadata.find(key);
    if (found == header_.metadata.end())
      user_error("{}: __metadata__ has no key '{}': expected a KV cache that Lathe wrote", name_, key);
    return found->second;
  }

  void expect(const char* key, const char* expected) const {
    if (value_of(key) == expected) return;
    user_error("{}: {}: expected {}, found {}", name_, key, expected, quote_text(value_of(key)));
  }

  KvCacheQuantizer layer(const std::string& attention, const KvCacheScheme& scheme,
                         const KvCacheShape& shape) const {
    KvCacheQuantizer quantizer{.scheme = scheme};
    const std::string prefix = attention + ".";
    for (const StoredTensor& tensor : header_.tensors) {
      if (!tensor.name.starts_with(prefix)) continue;
      const auto bytes = mapped_.bytes().subspan(tensor.begin, tensor.end - tensor.begin);
      if (tensor.info.dtype != DType::F32 && tensor.info.dtype != DType::I32)
        user_error("{}: tensor {}: expected F32 or I32, found {}", name_, quote_text(tensor.name),
                   tensor.info.describe());
      quantizer.parameters[tensor.name.substr(prefix.size())] = borrow({tensor.info, bytes}).clone();
    }
    if (const auto problem = kv_cache_problem(quantizer, shape))
      user_error("{}: {}{}", name_, prefix, *problem);
    return quantizer;
  }

  std::string name_;
  MappedFile mapped_;
  SafetensorsHeader header_;
};

class CachedWeights : public WeightSource {
 public:
  CachedWeights(std::unique_ptr<WeightSource> weights, KvCacheLayers cache)
      : weights_(std::move(weights)), cache_(std::move(cache)) {}

  bool contains(const std::string& name) const override { return weights_->contains(name); }
  at::Tensor load(const std::string& name) const override { return weights_->load(name); }
  at::Tensor load_stored(const std::string& name) const override { return weights_->load_stored(name); }
  at::Tensor load_rows(const std::string& name, const at::Tensor& rows) const override {
    return weights_->load_rows(name, rows);
  }
  bool looks_rows_up(const std::string& name) const override { return weights_->looks_rows_up(name); }
  std::optional<InputQuantizer> input_quantizer(const std::string& linear) const override {
    return weights_->input_quantizer(linear);
  }
  std::optional<KvCacheQuantizer> kv_cache(const std::string& attention) const override {
    const auto found = cache_.layers.find(attention);
    return found == cache_.layers.end() ? std::nullopt : std::optional(found->second);
  }

 private:
  std::unique_ptr<WeightSource> weights_;
  KvCacheLayers cache_;
};

}  // namespace

void write_kv_cache_file(const fs::path& folder, const KvCacheLayers& cache, const ModelGraph& graph,
                         const WeightSource& weights) {
  std::vector<PlannedTensor> planned;
  std::string data;
  for (const Block& block : graph.blocks) {
    const std::string attention = attention_module(block);
    if (attention.empty()) continue;
    const auto layer = cache.layers.find(attention);
    LATHE_ASSERT(layer != cache.layers.end(), "no KV cache of {}", attention);
    const auto problem = kv_cache_problem(layer->second, kv_cache_shape(graph.config));
    LATHE_ASSERT(!problem, "{}.{}", attention, *problem);
    for (const KvCacheParameter& parameter :
         kv_cache_parameters(cache.scheme, kv_cache_shape(graph.config))) {
      const at::Tensor values = layer->second.parameters.at(parameter.name).contiguous();
      planned.push_back({attention + "." + parameter.name, parameter.info});
      const auto bytes = bytes_of(values);
      data.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
  }
  const std::string header = format_safetensors_header(planned, 0, metadata_of(cache.scheme, graph, weights));
  fs::create_directories((folder / kKvCacheFile).parent_path());
  write_file(folder / kKvCacheFile, header + data);
}

KvCacheLayers read_kv_cache_file(const fs::path& file, const ModelGraph& graph, const WeightSource& weights) {
  return Reader(file).read(graph, weights);
}

std::unique_ptr<WeightSource> with_kv_cache(std::unique_ptr<WeightSource> weights, KvCacheLayers cache) {
  return std::make_unique<CachedWeights>(std::move(weights), std::move(cache));
}

}  // namespace lathe
