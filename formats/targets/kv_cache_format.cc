#include "formats/targets/kv_cache_format.h"

#include <ATen/ATen.h>

#include "formats/targets/float_reader.h"
#include "formats/targets/strict_object.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

using nlohmann::json;

constexpr const char* kScales[] = {".k_scale", ".v_scale"};

std::vector<PlannedTensor> layout(const std::string& attention) {
  std::vector<PlannedTensor> tensors;
  for (const char* scale : kScales) tensors.push_back({attention + scale, {DType::F32, {1}}});
  return tensors;
}

std::vector<std::pair<std::string, at::Tensor>> pack(const std::string& attention,
                                                     const KvCacheQuantizer& quantizer) {
  return {{attention + kScales[0], at::tensor({quantizer.k_scale}, at::kFloat)},
          {attention + kScales[1], at::tensor({quantizer.v_scale}, at::kFloat)}};
}

void describe(const KvCacheScheme& scheme, json& config) {
  config["kv_cache_scheme"] = {{"num_bits", scheme.bits},
                               {"type", scheme.type},
                               {"symmetric", true},
                               {"strategy", "tensor"},
                               {"dynamic", false}};
}

std::optional<std::string> warning(const KvCacheScheme& scheme) {
  if (scheme.floating()) return std::nullopt;
  return "kv_cache: vLLM (0.32) reads a KV cache of type float only, not int "
         "(CompressedTensorsKVCacheMethod); "
         "transformers reads both";
}

// --- modelopt

constexpr const char* kProjectionScales[] = {".k_proj.k_scale", ".v_proj.v_scale"};

std::vector<PlannedTensor> modelopt_layout(const std::string& attention) {
  std::vector<PlannedTensor> tensors;
  for (const char* scale : kProjectionScales) tensors.push_back({attention + scale, {DType::F32, {}}});
  return tensors;
}

std::vector<std::pair<std::string, at::Tensor>> modelopt_pack(const std::string& attention,
                                                              const KvCacheQuantizer& quantizer) {
  return {{attention + kProjectionScales[0], at::full({}, quantizer.k_scale, at::kFloat)},
          {attention + kProjectionScales[1], at::full({}, quantizer.v_scale, at::kFloat)}};
}

void modelopt_describe(const KvCacheScheme& scheme, json& config) {
  config["kv_cache_scheme"] = {{"num_bits", scheme.bits}, {"type", scheme.type}, {"dynamic", false}};
}

std::optional<std::string> no_warning(const KvCacheScheme&) { return std::nullopt; }

std::optional<std::string> integers_refused(const KvCacheScheme& scheme) {
  if (scheme.floating()) return std::nullopt;
  return "modelopt's readers take a KV cache of type float only, not int";
}

float read_scale(const Checkpoint& checkpoint, const std::string& name) {
  const float scale = read_float_tensor(checkpoint, name).item<float>();
  if (scale > 0) return scale;
  user_error("{}: the scale is {:g}: expected a positive number", describe_tensor(checkpoint, name), scale);
}

}  // namespace

const KvCacheFormat& modelopt_kv_cache() {
  static const KvCacheFormat format = {modelopt_layout, modelopt_pack, modelopt_describe, no_warning,
                                       integers_refused};
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
  scheme.bits = object.integer("num_bits", 8, 8);
  scheme.type = object.word("type", {"float", "int"});
  if (!object.truth("symmetric")) object.refuse("symmetric", "true (a KV cache has no zero points)");
  object.word("strategy", {"tensor"});
  if (const json* dynamic = object.find("dynamic"); dynamic != nullptr && *dynamic != false)
    object.refuse("dynamic", "false (scales are stored)");
  for (const char* key : {"group_size", "block_structure", "actorder", "scale_dtype"})
    object.unused(key, "a KV cache with one");
  object.optional_word("zp_dtype", {"torch.int8", "torch.float8_e4m3fn"});  // of zero points that it hasn't
  object.informational({"observer", "observer_kwargs"});
  object.no_other_keys();
  return scheme;
}

void check_kv_cache(const Checkpoint& checkpoint, const KvCacheFormat& format, const std::string& attention) {
  for (const PlannedTensor& planned : format.layout(attention)) {
    const std::string& name = planned.name;
    const auto found = checkpoint.tensors().find(name);
    if (found == checkpoint.tensors().end()) {
      user_error("{}: tensor '{}' is missing, but its configuration quantises the KV cache",
                 checkpoint.folder().string(), name);
    }
    const TensorInfo& info = found->second;
    const bool floating = info.dtype == DType::F32 || info.dtype == DType::F16 || info.dtype == DType::BF16;
    const bool one = info.shape.empty() || (info.shape.size() == 1 && info.shape[0] == 1);
    if (floating && one) continue;
    user_error("{}: expected one number (F32 [1]), found {}", describe_tensor(checkpoint, name),
               info.describe());
  }
}

KvCacheQuantizer read_kv_cache(const Checkpoint& checkpoint, const KvCacheFormat& format,
                               const std::string& attention, const KvCacheScheme& scheme) {
  const std::vector<PlannedTensor> scales = format.layout(attention);
  return {scheme, read_scale(checkpoint, scales[0].name), read_scale(checkpoint, scales[1].name)};
}

}  // namespace lathe
