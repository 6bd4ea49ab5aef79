#include "formats/targets/kv_cache_format.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <span>

#include "formats/targets/float_reader.h"
#include "formats/targets/strict_object.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

using nlohmann::json;

constexpr const char* kScales[] = {".k_scale", ".v_scale"};

std::vector<int64_t> shape_of_scales(const KvCacheScheme& scheme, const KvCacheShape& shape) {
  if (scheme.per_head) return {shape.heads, 1, 1};
  return {1};
}

std::vector<PlannedTensor> layout(const std::string& attention, const KvCacheScheme& scheme,
                                  const KvCacheShape& shape) {
  std::vector<PlannedTensor> tensors;
  for (const char* scale : kScales)
    tensors.push_back({attention + scale, {DType::F32, shape_of_scales(scheme, shape)}});
  return tensors;
}

at::Tensor stored(const std::vector<float>& scales, const KvCacheScheme& scheme) {
  const KvCacheShape shape{.heads = static_cast<int64_t>(scales.size())};
  return at::tensor(scales, at::kFloat).view(shape_of_scales(scheme, shape));
}

std::vector<std::pair<std::string, at::Tensor>> pack(const std::string& attention,
                                                     const KvCacheQuantizer& quantizer) {
  return {{attention + kScales[0], stored(quantizer.k_scales, quantizer.scheme)},
          {attention + kScales[1], stored(quantizer.v_scales, quantizer.scheme)}};
}

void describe(const KvCacheScheme& scheme, json& config) {
  config["kv_cache_scheme"] = {{"num_bits", 8},
                               {"type", scheme.type},
                               {"symmetric", true},
                               {"strategy", scheme.per_head ? "attn_head" : "tensor"},
                               {"dynamic", false}};
}

std::optional<std::string> warning(const KvCacheScheme& scheme) {
  if (scheme.floating() && !scheme.per_head) return std::nullopt;
  if (scheme.floating()) {
    return "kv_cache: vLLM (0.32) takes scales of heads with its FlashAttention backend only "
           "(docs/features/quantization/quantized_kvcache.md); transformers reads them";
  }
  return "kv_cache: vLLM (0.32) reads a KV cache of type float only, not int "
         "(CompressedTensorsKVCacheMethod); "
         "transformers reads both";
}

// --- modelopt

constexpr const char* kProjectionScales[] = {".k_proj.k_scale", ".v_proj.v_scale"};

std::vector<PlannedTensor> modelopt_layout(const std::string& attention, const KvCacheScheme&,
                                           const KvCacheShape&) {
  std::vector<PlannedTensor> tensors;
  for (const char* scale : kProjectionScales) tensors.push_back({attention + scale, {DType::F32, {}}});
  return tensors;
}

std::vector<std::pair<std::string, at::Tensor>> modelopt_pack(const std::string& attention,
                                                              const KvCacheQuantizer& quantizer) {
  return {{attention + kProjectionScales[0], at::full({}, quantizer.k_scales.front(), at::kFloat)},
          {attention + kProjectionScales[1], at::full({}, quantizer.v_scales.front(), at::kFloat)}};
}

void modelopt_describe(const KvCacheScheme& scheme, json& config) {
  config["kv_cache_scheme"] = {{"num_bits", 8}, {"type", scheme.type}, {"dynamic", false}};
}

std::optional<std::string> no_warning(const KvCacheScheme&) { return std::nullopt; }

std::optional<std::string> modelopt_refuses(const KvCacheScheme& scheme) {
  if (!scheme.floating()) return "modelopt's readers take a KV cache of type float only, not int";
  if (scheme.per_head) return "modelopt's readers take one scale for all heads (per: tensor)";
  return std::nullopt;
}

std::vector<float> read_scales(const Checkpoint& checkpoint, const std::string& name) {
  const at::Tensor stored = read_float_tensor(checkpoint, name).flatten();
  std::vector<float> scales;
  for (const float scale : std::span(stored.const_data_ptr<float>(), static_cast<size_t>(stored.numel()))) {
    if (!(scale > 0))
      user_error("{}: the scale is {:g}: expected a positive number", describe_tensor(checkpoint, name),
                 scale);
    scales.push_back(scale);
  }
  return scales;
}

}  // namespace

const KvCacheFormat& modelopt_kv_cache() {
  static const KvCacheFormat format = {modelopt_layout, modelopt_pack, modelopt_describe, no_warning,
                                       modelopt_refuses};
  return format;
}

const KvCacheFormat& compressed_tensors_kv_cache() {
  static const KvCacheFormat format = {layout, pack, describe, warning};
  return format;
}

std::optional<KvCacheScheme> parse_kv_cache_scheme(const json& value, const std::string& where) {
  if (value.is_null()) return std::nullopt;
  StrictObject object(value, where);
  KvCacheScheme scheme;
  scheme.bits = static_cast<double>(object.integer("num_bits", 8, 8));
  scheme.type = object.word("type", {"float", "int"});
  if (!object.truth("symmetric")) object.refuse("symmetric", "true (a KV cache has no zero points)");
  scheme.per_head = object.word("strategy", {"tensor", "attn_head"}) == "attn_head";
  if (const json* dynamic = object.find("dynamic"); dynamic != nullptr && *dynamic != false)
    object.refuse("dynamic", "false (scales are stored)");
  for (const char* key : {"group_size", "block_structure", "actorder", "scale_dtype"})
    object.unused(key, "a KV cache with one");
  object.optional_word("zp_dtype", {"torch.int8", "torch.float8_e4m3fn"});  // of zero points that it hasn't
  object.informational({"observer", "observer_kwargs"});
  object.no_other_keys();
  return scheme;
}

std::vector<PlannedTensor> StoredKvCache::layout(const std::string& attention) const {
  return format.layout(attention, scheme, shape);
}

void StoredKvCache::check(const Checkpoint& checkpoint, const std::string& attention) const {
  for (const PlannedTensor& planned : layout(attention)) {
    const std::string& name = planned.name;
    const auto found = checkpoint.tensors().find(name);
    if (found == checkpoint.tensors().end()) {
      user_error("{}: tensor '{}' is missing, but its configuration quantises the KV cache",
                 checkpoint.folder().string(), name);
    }
    const TensorInfo& info = found->second;
    const bool floating = info.dtype == DType::F32 || info.dtype == DType::F16 || info.dtype == DType::BF16;
    const bool one = info.shape.empty() || (info.shape.size() == 1 && info.shape[0] == 1);
    if (floating && (scheme.per_head ? info.shape == planned.info.shape : one)) continue;
    user_error("{}: expected {}, found {}", describe_tensor(checkpoint, name),
               scheme.per_head ? fmt::format("a number for each KV head ({})", planned.info.describe())
                               : "one number (F32 [1])",
               info.describe());
  }
}

KvCacheQuantizer StoredKvCache::read(const Checkpoint& checkpoint, const std::string& attention) const {
  const std::vector<PlannedTensor> scales = layout(attention);
  return {scheme, read_scales(checkpoint, scales[0].name), read_scales(checkpoint, scales[1].name)};
}

}  // namespace lathe
