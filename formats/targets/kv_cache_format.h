// Scales of a quantised KV cache in an artefact: what a target stores for each attention module. For a module
// m ("model.layers.0.self_attn"), compressed-tensors:
//   m.k_scale, m.v_scale  F32 [1], or of each KV head, F32 [kv_heads, 1, 1]
// and in quantization_config {"kv_cache_scheme": {"num_bits": 8, "type": "float", "symmetric": true,
// "strategy": "tensor", "dynamic": false}}, with "attn_head" for scales of heads. Sources: compressed-tensors
// 0.19 (_apply_kv_cache_scheme, initialize_qparams); vllm 0.32, layers/quantization/kv_cache.py,
// weight_utils.py (maybe_remap_kv_scale_name), CompressedTensorsKVCacheMethod.
// modelopt, FP8 only: m.k_proj.k_scale, m.v_proj.v_scale F32 [], in config.json's quantization_config
// {"kv_cache_scheme": {"num_bits": 8, "type": "float", "dynamic": false}}, and in hf_quant_config.json
// {"kv_cache_quant_algo": "FP8"}. Source: modelopt 0.47, torch/export/{quant_utils,convert_hf_config}.py.
#pragma once

#include <nlohmann/json.hpp>

#include <optional>
#include <string>

#include "formats/safetensors/checkpoint.h"
#include "formats/targets/target.h"
#include "lib/numeric/kv_cache.h"

namespace lathe {

const KvCacheFormat& compressed_tensors_kv_cache();
const KvCacheFormat& modelopt_kv_cache();

/// The value of "kv_cache_scheme" where it is one of those above; nothing for null. UserError, naming
/// `where`, for another.
std::optional<KvCacheScheme> parse_kv_cache_scheme(const nlohmann::json& value, const std::string& where);

/// The scales of one attention module in a checkpoint.
struct StoredKvCache {
  const KvCacheFormat& format;
  KvCacheScheme scheme;
  KvCacheShape shape;

  std::vector<PlannedTensor> layout(const std::string& attention) const;
  /// UserError where scales are missing, or not the floating-point numbers that the scheme has.
  void check(const Checkpoint& checkpoint, const std::string& attention) const;
  /// UserError for a scale that is not finite and positive.
  KvCacheQuantizer read(const Checkpoint& checkpoint, const std::string& attention) const;
};

}  // namespace lathe
