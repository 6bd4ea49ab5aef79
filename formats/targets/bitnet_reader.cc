#include "formats/targets/bitnet_reader.h"

#include <ATen/ATen.h>

#include "formats/targets/float_codes.h"
#include "formats/targets/float_reader.h"
#include "formats/targets/strict_object.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

constexpr int64_t kRowsInByte = 4;

Scheme ternary() { return {.type = "int", .bits = 2, .group_size = -1, .symmetric = true}; }

/// Is the stored scale a divisor? UserError for what a reader of weights can't follow.
bool parse_config(const nlohmann::json& value, const std::string& where) {
  StrictObject config(value, where);
  config.word("quant_method", {"bitnet"});
  const std::string kind = config.optional_word("linear_class", {"bitlinear", "autobitlinear"});
  config.optional_word("quantization_mode", {"offline"});
  const nlohmann::json* norm = config.find("use_rms_norm");
  if (norm != nullptr && !norm->is_null() && *norm != false)
    config.refuse("use_rms_norm", "false (a norm before each linear is not supported)");
  config.words("modules_to_not_convert", false);  // the tensors say it
  config.informational({"rms_norm_eps"});
  config.no_other_keys();
  return kind != "autobitlinear";
}

}  // namespace

at::Tensor unpack_ternary(const at::Tensor& packed) {
  std::vector<at::Tensor> parts;
  for (int64_t k = 0; k < kRowsInByte; ++k) parts.push_back(packed.bitwise_right_shift(2 * k).bitwise_and(3));
  return at::cat(parts).view(at::kChar).sub_(1);
}

BitnetReader::BitnetReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph)
    : LayoutReader(checkpoint, graph),
      divides_(parse_config(checkpoint->config().at("quantization_config"), where())) {
  for (const Linear& linear : graph.linears()) {
    const std::string weight = linear.name + ".weight", scale = linear.name + ".weight_scale";
    const auto found = checkpoint->tensors().find(weight);
    const bool bytes = found != checkpoint->tensors().end() && found->second.dtype == DType::U8;
    if (!checkpoint->contains(scale)) {
      if (bytes) user_error("{}: tensor '{}' is missing", checkpoint->folder().string(), scale);
      continue;
    }
    if (linear.out % kRowsInByte != 0)
      user_error("{}: '{}' has {} output features: four share a byte", checkpoint->folder().string(),
                 linear.name, linear.out);
    const bool numbers = !divides_ && found != checkpoint->tensors().end() && !bytes;
    const PlannedTensor packed{weight, {DType::U8, {linear.out / kRowsInByte, linear.in}}};
    add(planned(linear, ternary()),
        {numbers ? of_floats(weight, {linear.out, linear.in}) : packed, of_floats(scale, {1})});
  }
}

QuantizedTensor BitnetReader::read(const std::string& name) const {
  const PlannedLinear& linear = this->linear(name);
  const std::string weight = name + ".weight", scale = name + ".weight_scale";
  const at::Tensor stored = words(weight);
  QuantizedTensor tensor{
      .scheme = linear.scheme, .scale_dtype = DType::F32, .codes = {}, .scales = {}, .zero_points = {}};
  tensor.codes = stored.scalar_type() == at::kByte ? unpack_ternary(stored) : stored.to(at::kChar);
  const at::Tensor bad =
      stored.scalar_type() == at::kByte
          ? tensor.codes.gt(1)
          : tensor.codes.to(at::kFloat).ne(stored.to(at::kFloat)).logical_or_(tensor.codes.abs().gt(1));
  release(weight);
  if (bad.any().item<bool>()) {
    user_error("{}: the weight at {} (of the unpacked matrix) is none of -1, 0 and 1",
               describe_tensor(checkpoint(), weight), first_index(bad));
  }
  at::Tensor one = positive_scales(scale);
  if (divides_) one = positive(one.reciprocal(), describe_tensor(checkpoint(), scale) + ": its reciprocal");
  tensor.scales = one.view({1, 1}).repeat({linear.out, 1});
  return tensor;
}

}  // namespace lathe
