#include "formats/targets/compressed_tensors_reader.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>

#include "formats/targets/bitpack.h"
#include "formats/targets/code_words.h"
#include "formats/targets/compressed_tensors_config.h"
#include "formats/targets/float_codes.h"
#include "formats/targets/float_quantized.h"
#include "formats/targets/float_reader.h"
#include "formats/targets/layout_reader.h"
#include "formats/targets/rotation_format.h"
#include "lib/base/error.h"
#include "lib/model/cached_attention.h"
#include "lib/model/forward.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

/// Suffixes of what stands for one linear.
std::vector<std::string> int_quantized_names(const ActivationScheme& activations) {
  std::vector<std::string> names = {"weight", "weight_scale", "bias"};
  if (!activations.dynamic) names.push_back("input_scale");
  if (!activations.dynamic && !activations.symmetric) names.push_back("input_zero_point");
  return names;
}

/// One of the tensors that stand for some scheme's weight.
bool is_of_the_format(const std::string& suffix) {
  static const std::set<std::string> names = {
      "weight_packed", "weight_scale",     "weight_zero_point",   "weight_shape",      "weight_g_idx",
      "input_scale",   "input_zero_point", "weight_global_scale", "input_global_scale"};
  return names.contains(suffix);
}

}  // namespace

CompressedTensorsReader::CompressedTensorsReader(std::shared_ptr<const Checkpoint> checkpoint,
                                                 const ModelGraph& graph)
    : checkpoint_(std::move(checkpoint)), float_dtype_(graph.config.dtype) {
  const std::string where = (checkpoint_->folder() / "config.json").string() + ": quantization_config";
  const auto config = parse_compressed_tensors_config(checkpoint_->config().at("quantization_config"), where);
  if (config.rotation) rotation_suffix_ = rotation_suffix(config.rotation->name);
  for (const Linear& linear : graph.linears()) {
    const CompressedTensorsConfig::Group* group = config.group_of(linear.name);
    if (group != nullptr && group->activations) activations_[linear.name] = *group->activations;
    if (group != nullptr && !group->packed && group->scheme.float_grid() == nullptr)
      in_bytes_.insert(linear.name);
    check_names(linear, group != nullptr ? &group->scheme : nullptr);
    const int64_t rotation = config.rotation_of(linear.name);
    if (group == nullptr && rotation > 0) {
      user_error(
          "{}.transform_config: rotates the input of '{}', which is not quantised: expected quantised ones "
          "alone",
          where, linear.name);
    }
    if (group == nullptr) continue;
    if (rotation > 0) check_rotation(linear, rotation);
    if (group->scheme.float_grid() != nullptr) {
      check_float_quantized(linear, group->scheme);
    } else if (in_bytes(linear.name)) {
      check_int_quantized(linear, group->scheme);
    } else {
      check_packed(linear, group->scheme);
    }
    schemes_[linear.name] = group->scheme;
    schemes_[linear.name].hadamard = rotation;
    linears_[linear.name] = linear;
  }
  if (config.kv_cache)
    kv_cache_.emplace(compressed_tensors_kv_cache(), *config.kv_cache, kv_cache_shape(graph.config));
  for (const Block& block : graph.blocks) {
    const std::string attention = attention_module(block);
    if (!kv_cache_ || attention.empty()) continue;
    kv_cache_->check(*checkpoint_, attention);
    attentions_.push_back(attention);
  }
}

std::optional<KvCacheQuantizer> CompressedTensorsReader::kv_cache(const std::string& attention) const {
  if (std::ranges::find(attentions_, attention) == attentions_.end()) return std::nullopt;
  return kv_cache_->read(*checkpoint_, attention);
}

/// The linear's tensors are those that the config promises, and no others (an activation order or an input
/// scale that we don't know of would change what the codes mean).
void CompressedTensorsReader::check_names(const Linear& linear, const Scheme* scheme) const {
  const bool floats = scheme != nullptr && scheme->float_grid() != nullptr;
  const bool plain = floats ? !packs_float_codes(*scheme) : in_bytes(linear.name);
  const std::string packed = linear.name + (plain ? ".weight" : ".weight_packed");
  if (scheme == nullptr && checkpoint_->contains(packed)) {
    user_error(
        "{}: is stored, but quantization_config leaves '{}' in floating point: no group names it, or "
        "`ignore` does",
        describe_tensor(*checkpoint_, packed), linear.name);
  }
  std::vector<std::string> known = {"weight", "bias"};
  if (floats) {
    known = {"bias"};
    for (const PlannedTensor& tensor : float_quantized_layout(planned(linear, *scheme)))
      known.push_back(tensor.name.substr(linear.name.size() + 1));
  } else if (in_bytes(linear.name)) {
    known = int_quantized_names(activations_.at(linear.name));
  } else if (scheme != nullptr) {
    known = {"weight_packed", "weight_scale", "weight_shape", "bias"};
    if (!scheme->symmetric) known.push_back("weight_zero_point");
  }
  if (!rotation_suffix_.empty()) known.push_back(rotation_suffix_.substr(1));
  if (scheme != nullptr && !checkpoint_->contains(packed)) {
    user_error(
        "{}: tensor '{}' is missing, but quantization_config stores '{}' as {}; list it in `ignore` if it is "
        "not quantised",
        checkpoint_->folder().string(), packed, linear.name, scheme->describe());
  }
  const std::string prefix = linear.name + ".";
  const auto& tensors = checkpoint_->tensors();
  for (auto it = tensors.lower_bound(prefix); it != tensors.end() && it->first.starts_with(prefix); ++it) {
    const std::string suffix = it->first.substr(prefix.size());
    if (std::find(known.begin(), known.end(), suffix) != known.end()) continue;
    if (scheme == nullptr && !is_of_the_format(suffix)) continue;  // the model's own
    user_error("{}: not expected beside a linear stored as {}{}", describe_tensor(*checkpoint_, it->first),
               scheme != nullptr ? scheme->describe() : "floating point",
               suffix == "weight_g_idx"
                   ? " (activation order 'group' is not supported: make the artefact with 'static')"
                   : "");
  }
}

PlannedLinear CompressedTensorsReader::planned(const Linear& linear, const Scheme& scheme) const {
  PlannedLinear result{.name = linear.name, .out = linear.out, .in = linear.in, .scheme = scheme};
  const auto activations = activations_.find(linear.name);
  if (activations != activations_.end()) result.activations = activations->second;
  return result;
}

void CompressedTensorsReader::check_float_quantized(const Linear& linear, const Scheme& scheme) const {
  if (packs_float_codes(scheme) && !scheme.divides(linear.in)) {
    user_error(
        "{}: quantization_config stores '{}' in groups of {}, which do not divide its {} input features",
        checkpoint_->folder().string(), linear.name, scheme.group_size, linear.in);
  }
  for (const PlannedTensor& tensor : float_quantized_layout(planned(linear, scheme))) {
    const bool scale = tensor.name.ends_with("_scale") && traits(tensor.info.dtype).bytes > 1;
    if (scale && !tensor.name.ends_with("_global_scale")) {
      check_scale(tensor.name, tensor.info.shape);
    } else {
      check_tensor(tensor.name, tensor.info);
    }
  }
}

void CompressedTensorsReader::check_int_quantized(const Linear& linear, const Scheme& scheme) const {
  check_groups(linear, scheme);
  check_tensor(linear.name + ".weight", {DType::I8, {linear.out, linear.in}});
  check_scale(linear.name + ".weight_scale", {linear.out, scheme.groups(linear.in)});
  const ActivationScheme& activations = activations_.at(linear.name);
  if (activations.dynamic) return;
  check_scale(linear.name + ".input_scale", {1});
  if (!activations.symmetric) check_tensor(linear.name + ".input_zero_point", {DType::I8, {1}});
}

/// The matrix that the input is rotated by may stand beside a linear; llm-compressor keeps one for all.
void CompressedTensorsReader::check_rotation(const Linear& linear, int64_t block) const {
  if (linear.in % block != 0) {
    user_error(
        "{}: transform_config rotates the input of '{}' in blocks of {}, which do not divide its {} features",
        checkpoint_->folder().string(), linear.name, block, linear.in);
  }
  const std::string name = linear.name + rotation_suffix_;
  if (!checkpoint_->contains(name)) return;
  check_scale(name, {block, block});
  const at::Tensor stored = read_float_tensor(*checkpoint_, name);
  checkpoint_->release(name);
  const at::Tensor other = stored.ne(rotation_signs(block));
  if (!other.any().item<bool>()) return;
  user_error("{}: the value at {} is {:g}: expected Sylvester's Hadamard matrix, of 1 and -1",
             describe_tensor(*checkpoint_, name), first_index(other),
             stored.masked_select(other)[0].item<float>());
}

/// Any float dtype.
void CompressedTensorsReader::check_scale(const std::string& name, std::vector<int64_t> shape) const {
  const auto it = checkpoint_->tensors().find(name);
  const DType found = it == checkpoint_->tensors().end() ? float_dtype_ : it->second.dtype;
  const bool floating = found == DType::F16 || found == DType::BF16 || found == DType::F32;
  check_tensor(name, {floating ? found : float_dtype_, std::move(shape)});
}

void CompressedTensorsReader::check_groups(const Linear& linear, const Scheme& scheme) const {
  if (scheme.divides(linear.in)) return;
  user_error(
      "{}: quantization_config stores '{}' with group_size {}, which does not divide its {} input features",
      checkpoint_->folder().string(), linear.name, scheme.group_size, linear.in);
}

void CompressedTensorsReader::check_packed(const Linear& linear, const Scheme& scheme) const {
  check_groups(linear, scheme);
  const int64_t groups = scheme.groups(linear.in);
  check_tensor(linear.name + ".weight_packed",
               {DType::I32, {linear.out, packed_words(linear.in, scheme.bits)}});
  check_tensor(linear.name + ".weight_shape", {DType::I64, {2}});
  check_shape_tensor(linear);
  if (!scheme.symmetric) {
    check_tensor(linear.name + ".weight_zero_point",
                 {DType::I32, {packed_words(linear.out, scheme.bits), groups}});
  }
  check_scale(linear.name + ".weight_scale", {linear.out, groups});
}

void CompressedTensorsReader::check_tensor(const std::string& name, const TensorInfo& expected) const {
  const auto it = checkpoint_->tensors().find(name);
  if (it == checkpoint_->tensors().end()) {
    user_error("{}: tensor '{}' is missing: expected {}", checkpoint_->folder().string(), name,
               expected.describe());
  }
  if (it->second == expected) return;
  user_error("{}: expected {}, found {}", describe_tensor(*checkpoint_, name), expected.describe(),
             it->second.describe());
}

void CompressedTensorsReader::check_shape_tensor(const Linear& linear) const {
  const std::string name = linear.name + ".weight_shape";
  const TensorView view = checkpoint_->view(name);
  std::array<int64_t, 2> shape{};
  LATHE_ASSERT(view.bytes.size() == sizeof shape, "{} has {} bytes", name, view.bytes.size());
  std::memcpy(shape.data(), view.bytes.data(), sizeof shape);
  checkpoint_->release(name);
  if (shape[0] == linear.out && shape[1] == linear.in) return;
  user_error("{}: expected the values [{}, {}], found [{}, {}]", describe_tensor(*checkpoint_, name),
             linear.out, linear.in, shape[0], shape[1]);
}

/// What scales are multiplied by: the stored number divides.
at::Tensor CompressedTensorsReader::read_global(const std::string& name) const {
  const at::Tensor inverse = read_scales(name).reciprocal().reshape({});
  return positive(inverse, describe_tensor(*checkpoint_, name) + ": its reciprocal");
}

/// Codes and scales of a tensor that has its scheme and the type of its scales' bytes.
QuantizedTensor CompressedTensorsReader::read_float_quantized(const std::string& linear,
                                                              QuantizedTensor tensor) const {
  const bool packed = packs_float_codes(tensor.scheme);
  const std::string codes = linear + (packed ? ".weight_packed" : ".weight"),
                    scales = linear + ".weight_scale";
  const at::Tensor stored = borrow(checkpoint_->view(codes));
  tensor.codes = packed ? unpack_float_codes(stored, tensor.scheme)
                        : codes_of_fp8(stored, describe_tensor(*checkpoint_, codes));
  checkpoint_->release(codes);
  const auto [rows, groups] = tensor.scheme.parameter_shape(tensor.codes.size(0), tensor.codes.size(1));
  tensor.scale_dtype = tensor.scheme.scale_type(tensor.scale_dtype);
  if (tensor.scheme.float_grid()->scales == FloatGridType::Scales::plain) {
    tensor.scales = read_scales(scales).view({rows, groups});
  } else {
    tensor.scales = block_scales_of(borrow(checkpoint_->view(scales)), describe_tensor(*checkpoint_, scales));
    checkpoint_->release(scales);
  }
  if (tensor.scheme.has_global_scale()) tensor.global_scale = read_global(linear + ".weight_global_scale");
  tensor.input = input_quantizer(linear);
  return tensor;
}

at::Tensor CompressedTensorsReader::read_scales(const std::string& name) const {
  at::Tensor scales = read_float_tensor(*checkpoint_, name);
  checkpoint_->release(name);
  const at::Tensor bad = scales <= 0;
  if (bad.any().item<bool>()) {
    user_error("{}: the scale at {} is {:g}: expected a positive number", describe_tensor(*checkpoint_, name),
               first_index(bad), scales.masked_select(bad)[0].item<float>());
  }
  return scales;
}

/// Char, a code a byte. UserError for one beyond the scheme's bits.
at::Tensor CompressedTensorsReader::read_bytes(const std::string& name, const Scheme& scheme) const {
  const at::Tensor codes = borrow(checkpoint_->view(name)).clone();
  checkpoint_->release(name);
  const at::Tensor bad = codes.lt(scheme.qmin()).logical_or_(codes.gt(scheme.qmax()));
  if (!bad.any().item<bool>()) return codes;
  user_error("{}: the code at {} is {}: expected {} to {}", describe_tensor(*checkpoint_, name),
             first_index(bad), codes.masked_select(bad)[0].item<int>(), scheme.qmin(), scheme.qmax());
}

QuantizedTensor CompressedTensorsReader::read(const std::string& linear) const {
  const auto found = schemes_.find(linear);
  LATHE_ASSERT(found != schemes_.end(), "'{}' is not a packed linear", linear);
  const Linear& shape = linears_.at(linear);
  QuantizedTensor tensor{.scheme = found->second,
                         .scale_dtype = checkpoint_->tensors().at(linear + ".weight_scale").dtype,
                         .codes = {},
                         .scales = {},
                         .zero_points = {}};
  if (tensor.scheme.float_grid() != nullptr) return read_float_quantized(linear, std::move(tensor));
  tensor.scales = read_scales(linear + ".weight_scale");
  if (in_bytes(linear)) {
    tensor.codes = read_bytes(linear + ".weight", tensor.scheme);
    tensor.input = input_quantizer(linear);
    return tensor;
  }
  tensor.input = input_quantizer(linear);
  const int bits = tensor.scheme.bits;
  tensor.codes = unpack_row_words(borrow(checkpoint_->view(linear + ".weight_packed")), bits, shape.in);
  checkpoint_->release(linear + ".weight_packed");
  if (!tensor.scheme.symmetric) {
    const at::Tensor along_out = borrow(checkpoint_->view(linear + ".weight_zero_point")).t().contiguous();
    checkpoint_->release(linear + ".weight_zero_point");
    tensor.zero_points = to_signed(unpack_rows(along_out, bits, shape.out).t(), bits);
  }
  return tensor;
}

std::optional<InputQuantizer> CompressedTensorsReader::input_quantizer(const std::string& linear) const {
  const auto found = activations_.find(linear);
  if (found == activations_.end()) return std::nullopt;
  InputQuantizer quantizer{.scheme = found->second};
  quantizer.hadamard = schemes_.at(linear).hadamard;
  if (!quantizer.scheme.calibrated()) return quantizer;
  if (quantizer.scheme.dynamic) {
    quantizer.scale = read_global(linear + ".input_global_scale").item<float>();
    return quantizer;
  }
  quantizer.scale = read_scales(linear + ".input_scale").item<float>();
  if (!quantizer.scheme.symmetric)
    quantizer.zero_point = borrow(checkpoint_->view(linear + ".input_zero_point")).item<int>();
  return quantizer;
}

std::map<std::string, TensorInfo> CompressedTensorsReader::unpacked_tensors() const {
  std::map<std::string, TensorInfo> tensors = checkpoint_->tensors();
  for (const std::string& attention : attentions_) {
    for (const PlannedTensor& scale : kv_cache_->layout(attention)) tensors.erase(scale.name);
  }
  for (const auto& [name, linear] : linears_) {
    for (const char* suffix :
         {".weight_packed", ".weight_scale", ".weight_shape", ".weight_zero_point", ".weight_global_scale",
          ".input_global_scale", ".input_scale", ".input_zero_point"}) {
      tensors.erase(name + suffix);
    }
    if (!rotation_suffix_.empty()) tensors.erase(name + rotation_suffix_);
    tensors[name + ".weight"] = {float_dtype_, {linear.out, linear.in}};
  }
  return tensors;
}

}  // namespace lathe
