// A KV cache of fewer than 8 bits (KvCacheScheme::low_bit()) in an artefact: kv_cache/kv_cache.safetensors
// beside the weights, in a folder of its own because engines take every .safetensors file beside config.json
// for weights. No engine reads it yet; README, "KV cache below 8 bits", says what a reader does with it.
//
//   __metadata__  format "lathe-kv-cache", version "1"
//                 scheme  a JSON object, as a recipe's kv_cache with every setting
//                 layers, kv_heads, head_dim  decimal numbers
//                 model   content hash (lib/base/hash.h) of the final norm's weight in FP32, by which another
//                         model is told
//   tensors       <attention module>.<parameter> for each layer and each of kv_cache_parameters(), none for
//                 kivi: "model.layers.0.self_attn.key_levels"
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "lib/model/graph.h"
#include "lib/model/weight_source.h"
#include "lib/numeric/kv_cache.h"

namespace lathe {

/// Of the artefact's folder.
inline constexpr const char* kKvCacheFile = "kv_cache/kv_cache.safetensors";

/// Layers by attention module.
struct KvCacheLayers {
  KvCacheScheme scheme;
  std::map<std::string, KvCacheQuantizer> layers;
};

/// Writes kKvCacheFile below the folder. InternalError where a layer of the graph is missing or its
/// parameters aren't the scheme's; UserError where the disk fails.
void write_kv_cache_file(const std::filesystem::path& folder, const KvCacheLayers& cache,
                         const ModelGraph& graph, const WeightSource& weights);

/// Reads such a file, for this model. UserError, naming the file, for what isn't laid out as above,
/// parameters that can't be (kv_cache_problem()), and a cache of another model.
KvCacheLayers read_kv_cache_file(const std::filesystem::path& file, const ModelGraph& graph,
                                 const WeightSource& weights);

/// The same model whose cache is kept so.
std::unique_ptr<WeightSource> with_kv_cache(std::unique_ptr<WeightSource> weights, KvCacheLayers cache);

}  // namespace lathe
