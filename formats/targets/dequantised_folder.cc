#include "formats/targets/dequantised_folder.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "formats/targets/float_reader.h"
#include "formats/targets/packed_reader.h"
#include "lib/base/error.h"
#include "lib/base/strings.h"
#include "lib/kernels/dequantize.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

constexpr std::string_view kWeight = ".weight";
/// Codes, FP32 values and their copy in the config's type.
constexpr uint64_t kBytesPerWeight = 1 + 4 + 2;

/// "40 linears fp8_e4m3 block 128x128 and 2 linears fp8_e4m3 channel"
std::string describe_packed(const std::map<std::string, Scheme>& schemes) {
  std::map<std::string, int64_t> counts;
  for (const auto& [linear, scheme] : schemes) ++counts[scheme.describe()];
  std::string text;
  for (const auto& [scheme, count] : counts)
    text +=
        fmt::format("{}{} linear{} {}", text.empty() ? "" : " and ", count, count == 1 ? "" : "s", scheme);
  return text;
}

bool is_fp8(DType type) { return type == DType::F8_E4M3 || type == DType::F8_E5M2 || type == DType::F8_E8M0; }

/// Numbers whose scale no reader has looked at mean nothing.
void check_no_fp8(const Checkpoint& checkpoint, const std::map<std::string, TensorInfo>& tensors) {
  for (const auto& [name, info] : tensors) {
    if (!is_fp8(info.dtype)) continue;
    user_error("{}: is {}, but no linear's weight: expected F16, BF16 or F32 there",
               describe_tensor(checkpoint, name), name_of(info.dtype));
  }
}

DType floating_type(const nlohmann::json& config) {
  for (const char* key : {"dtype", "torch_dtype"}) {
    const auto found = config.find(key);
    if (found == config.end()) continue;
    if (*found == "float16") return DType::F16;
    if (*found == "float32") return DType::F32;
  }
  return DType::BF16;
}

}  // namespace

DequantisedWeights::DequantisedWeights(std::unique_ptr<WeightSource> packed, std::string described,
                                       uint64_t most_bytes)
    : packed_(std::move(packed)), described_(std::move(described)), most_bytes_(most_bytes) {}

bool DequantisedWeights::contains(const std::string& name) const { return packed_->contains(name); }
at::Tensor DequantisedWeights::load(const std::string& name) const { return packed_->load(name); }
at::Tensor DequantisedWeights::load_stored(const std::string& name) const {
  return packed_->load_stored(name);
}
at::Tensor DequantisedWeights::load_rows(const std::string& name, const at::Tensor& rows) const {
  return packed_->load_rows(name, rows);
}
bool DequantisedWeights::looks_rows_up(const std::string& name) const { return packed_->looks_rows_up(name); }

const DequantisedWeights* dequantised_weights(const ModelFolder& model) {
  return dynamic_cast<const DequantisedWeights*>(model.weights.get());
}

bool can_start_a_run(const ModelFolder& model) {
  if (!model.quantized || model.packed->read_alone()) return true;
  if (model.schemes.empty()) return false;  // a cache alone, which the floating-point model hasn't
  return std::ranges::all_of(model.schemes,
                             [](const auto& entry) { return entry.second.type == "fp8_e4m3"; });
}

ModelFolder dequantised_folder(ModelFolder model) {
  const auto stored = model.checkpoint;
  const std::map<std::string, TensorInfo> tensors = model.packed->unpacked_tensors();
  check_no_fp8(*stored, tensors);
  nlohmann::json config = stored->config();
  config.erase("quantization_config");
  config.erase("quip_params");
  const auto make = [stored, tensors, packed = model.packed](const std::string& name) -> TensorView {
    const std::string linear =
        name.ends_with(kWeight) ? name.substr(0, name.size() - kWeight.size()) : std::string();
    if (!packed->schemes().contains(linear)) return stored->view(name);
    const TensorInfo& info = tensors.at(name);
    const at::Tensor values =
        kernels::dequantized_weight(packed->read(linear)).to(to_scalar_type(info.dtype)).contiguous();
    if (!all_finite(values))
      user_error("{}: '{}' has values that {} can't hold", stored->folder().string(), name,
                 name_of(info.dtype));
    const auto owner = std::make_shared<const at::Tensor>(values);
    return {info, bytes_of(*owner), owner};
  };
  uint64_t most = 0;
  for (const auto& [linear, scheme] : model.schemes)
    most = std::max(most, static_cast<uint64_t>(tensors.at(linear + std::string(kWeight)).numel()));
  std::string described = describe_packed(model.schemes);
  if (model.kv_cache) described += fmt::format(", KV cache {}", model.kv_cache->describe());
  model.weights = std::make_unique<DequantisedWeights>(std::move(model.weights), std::move(described),
                                                       kBytesPerWeight * most);
  model.checkpoint =
      std::make_shared<const Checkpoint>(Checkpoint::made(stored->folder(), config, tensors, make));
  model.quantized = false;
  model.schemes.clear();
  model.activations.clear();
  model.packed.reset();
  model.kv_cache.reset();
  return model;
}

std::map<std::string, TensorInfo> floating_tensors(const Checkpoint& checkpoint) {
  std::map<std::string, TensorInfo> tensors = checkpoint.tensors();
  const DType type = floating_type(checkpoint.config());
  for (const auto& [name, info] : checkpoint.tensors()) {
    if (info.dtype != DType::F8_E4M3 || info.shape.size() != 2 || !name.ends_with(kWeight)) continue;
    tensors[name].dtype = type;
    const std::string module = name.substr(0, name.size() - kWeight.size());
    for (const char* suffix : {".weight_scale", ".weight_scale_inv", ".input_scale", ".activation_scale"})
      tensors.erase(module + suffix);
  }
  return tensors;
}

}  // namespace lathe
