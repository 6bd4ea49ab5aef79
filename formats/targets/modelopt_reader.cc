#include "formats/targets/modelopt_reader.h"

#include <ATen/ATen.h>

#include "formats/targets/float_codes.h"
#include "formats/targets/float_reader.h"
#include "lib/base/error.h"
#include "lib/model/cached_attention.h"
#include "lib/model/forward.h"

namespace lathe {

ModeloptReader::ModeloptReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph)
    : LayoutReader(checkpoint, graph),
      config_(parse_modelopt_config(checkpoint->config().at("quantization_config"), where())) {
  if (config_.kv_cache)
    kv_cache_.emplace(modelopt_kv_cache(), *config_.kv_cache, kv_cache_shape(graph.config));
  for (const Linear& linear : graph.linears()) {
    const ModeloptGrid* grid = config_.grid_of(linear.name);
    if (grid == nullptr) {
      check_floating(linear, {".weight_scale", ".weight_scale_2", ".input_scale", ".pre_quant_scale"});
      continue;
    }
    const PlannedLinear found = stored(linear, *grid);
    if (found.out < 1 || !found.scheme.divides(found.in) ||
        (found.scheme.type == "int" && found.out % 2 != 0)) {
      user_error("{}: '{}' of shape [{}, {}] can't be stored as {}", checkpoint->folder().string(),
                 linear.name, linear.out, linear.in, found.scheme.describe());
    }
    add(found, stored_layout(found), ".pre_quant_scale");
  }
  for (const Block& block : graph.blocks) {
    const std::string attention = attention_module(block);
    if (!kv_cache_ || attention.empty()) continue;
    kv_cache_->check(*checkpoint, attention);
    attentions_.push_back(attention);
  }
}

/// As the target would plan it, with the type of INT4's scales as it stands in the file.
PlannedLinear ModeloptReader::stored(const Linear& linear, const ModeloptGrid& grid) const {
  PlannedLinear result{.name = linear.name,
                       .out = linear.out,
                       .in = linear.in,
                       .scheme = grid.scheme,
                       .scale_dtype = DType::F32,
                       .role = linear.role,
                       .expert = linear.input.expert.has_value(),
                       .activations = grid.activations};
  const auto scales = checkpoint().tensors().find(linear.name + ".weight_scale");
  if (scales == checkpoint().tensors().end()) return result;
  if (scales->second.dtype == DType::F16 || scales->second.dtype == DType::BF16)
    result.scale_dtype = scales->second.dtype;
  return result;
}

/// The cache's scale that stands beside a linear, or nothing.
std::optional<PlannedTensor> ModeloptReader::stored_cache_scale(const std::string& linear) const {
  const size_t dot = linear.rfind('.');
  if (!kv_cache_ || dot == std::string::npos) return std::nullopt;
  for (PlannedTensor& scale : kv_cache_->layout(linear.substr(0, dot))) {
    if (scale.name.starts_with(linear + ".")) return scale;
  }
  return std::nullopt;
}

std::map<std::string, TensorInfo> ModeloptReader::unpacked_tensors() const {
  std::map<std::string, TensorInfo> tensors = LayoutReader::unpacked_tensors();
  for (const std::string& attention : attentions_) {
    for (const PlannedTensor& scale : kv_cache_->layout(attention)) tensors.erase(scale.name);
  }
  return tensors;
}

std::optional<KvCacheQuantizer> ModeloptReader::kv_cache(const std::string& attention) const {
  if (!kv_cache_ || attention.empty()) return std::nullopt;
  return kv_cache_->read(checkpoint(), attention);
}

/// Scalars may stand as [] or [1], E8M0 scales in one column (as MXFP4QTensor.quantize() gives them), and a
/// pre_quant_scale beside any linear, of any floating type.
std::vector<PlannedTensor> ModeloptReader::stored_layout(const PlannedLinear& linear) const {
  std::vector<PlannedTensor> tensors = modelopt_layout(linear);
  const std::string before = linear.name + ".pre_quant_scale";
  std::erase_if(tensors, [&](const PlannedTensor& tensor) { return tensor.name == before; });
  if (linear.scheme.type == "int") tensors.push_back({before, {linear.scale_dtype, {linear.in}}});
  if (auto scale = stored_cache_scale(linear.name)) tensors.push_back(*std::move(scale));
  for (PlannedTensor& tensor : tensors) {
    const auto found = checkpoint().tensors().find(tensor.name);
    if (found == checkpoint().tensors().end()) continue;
    if (tensor.info.shape.empty() && found->second.shape == std::vector<int64_t>{1}) tensor.info.shape = {1};
    const std::vector<int64_t> column = {tensor.info.numel(), 1};
    if (tensor.name.ends_with(".weight_scale") && tensor.info.dtype == DType::U8 &&
        found->second.shape == column)
      tensor.info.shape = column;
    const DType type = found->second.dtype;
    const bool floating = type == DType::F16 || type == DType::BF16 || type == DType::F32;
    if (tensor.name == before && floating) tensor.info.dtype = type;
  }
  return tensors;
}

std::map<std::string, ActivationScheme> ModeloptReader::activations() const {
  std::map<std::string, ActivationScheme> result;
  for (const auto& [name, scheme] : schemes()) {
    if (const auto& activations = linear(name).activations) result.emplace(name, *activations);
  }
  return result;
}

at::Tensor ModeloptReader::scalar(const std::string& name) const { return positive_scales(name).reshape({}); }

std::optional<InputQuantizer> ModeloptReader::input_quantizer(const std::string& name) const {
  if (!schemes().contains(name) || !linear(name).activations) return std::nullopt;
  InputQuantizer quantizer{.scheme = *linear(name).activations};
  if (quantizer.scheme.calibrated()) quantizer.scale = scalar(name + ".input_scale").item<float>();
  return quantizer;
}

void ModeloptReader::check_pre_quant_scale(const std::string& linear) const {
  const std::string name = linear + ".pre_quant_scale";
  if (!checkpoint().contains(name)) return;
  const at::Tensor bad = positive_scales(name) != 1;
  if (!bad.any().item<bool>()) return;
  user_error(
      "{}: the factor at {} is not 1: inputs that are scaled before the linear are not supported; make the "
      "artefact "
      "with the scale folded into what comes before",
      describe_tensor(checkpoint(), name), first_index(bad));
}

QuantizedTensor ModeloptReader::read(const std::string& name) const {
  const PlannedLinear& linear = this->linear(name);
  check_pre_quant_scale(name);
  const std::string weight = name + ".weight", scale = name + ".weight_scale";
  QuantizedTensor tensor{.scheme = linear.scheme,
                         .scale_dtype = linear.scheme.scale_type(linear.scale_dtype),
                         .codes = {},
                         .scales = {},
                         .zero_points = {}};
  const auto [rows, groups] = linear.scheme.parameter_shape(linear.out, linear.in);
  const bool coded = linear.scheme.scale_type(DType::F32) != DType::F32;  // scales of a block
  if (linear.scheme.type == "int") {
    tensor.codes = unpack_row_pairs(words(weight));
  } else if (linear.scheme.bits == 4) {
    tensor.codes = unpack_fp4(words(weight));
  } else {
    tensor.codes = codes_of_fp8(words(weight), describe_tensor(checkpoint(), weight));
  }
  tensor.scales =
      coded ? block_scales_of(words(scale), describe_tensor(checkpoint(), scale)) : positive_scales(scale);
  tensor.scales = tensor.scales.view({rows, groups});
  if (coded) release(scale);
  if (linear.scheme.has_global_scale()) tensor.global_scale = scalar(name + ".weight_scale_2");
  release(weight);
  tensor.input = input_quantizer(name);
  if (linear.scheme.type == "int" && tensor.input) scalar(name + ".weight_scale_2");  // looked at, no more
  return tensor;
}

}  // namespace lathe
