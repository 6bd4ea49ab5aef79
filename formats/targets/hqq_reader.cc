#include "formats/targets/hqq_reader.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "formats/targets/float_reader.h"
#include "formats/targets/hqq.h"
#include "lib/base/error.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

std::string text_of(const at::Tensor& value) {
  if (value.dim() == 0) return std::to_string(value.item<int64_t>());
  std::string text;
  for (int64_t i = 0; i < value.numel(); ++i)
    text += value.scalar_type() == at::kByte
                ? std::string(1, static_cast<char>(value[i].item<uint8_t>()))
                : fmt::format("{}{}", i > 0 ? ", " : "", value[i].item<int64_t>());
  return text;
}

}  // namespace

HqqReader::HqqReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph)
    : checkpoint_(std::move(checkpoint)), float_dtype_(graph.config.dtype) {
  for (const Linear& linear : graph.linears()) {
    if (!checkpoint_->contains(linear.name + ".W_q")) continue;
    const PlannedLinear found = read_facts(linear);
    check(found);
    linears_.emplace(linear.name, found);
    schemes_.emplace(linear.name, found.scheme);
  }
}

/// A 0-D integer.
int64_t HqqReader::number(const std::string& name) const {
  if (!checkpoint_->contains(name))
    user_error("{}: tensor '{}' is missing", checkpoint_->folder().string(), name);
  const TensorInfo expected{DType::I32, {}}, &found = checkpoint_->tensors().at(name);
  if (found != expected)
    user_error("{}: expected {}, found {}", describe_tensor(*checkpoint_, name), expected.describe(),
               found.describe());
  return borrow(checkpoint_->view(name)).item<int64_t>();
}

PlannedLinear HqqReader::read_facts(const Linear& linear) const {
  const auto in_range = [&](const char* suffix, int64_t low, int64_t high) {
    const std::string name = linear.name + suffix;
    const int64_t value = number(name);
    if (value < low || value > high)
      user_error("{}: expected {} to {}, found {}", describe_tensor(*checkpoint_, name), low, high, value);
    return value;
  };
  PlannedLinear found{
      .name = linear.name, .out = linear.out, .in = linear.in, .scheme = {}, .scale_dtype = float_dtype_};
  found.scheme.bits = static_cast<int>(in_range(".nbits", 1, 8));
  found.scheme.axis = static_cast<int>(in_range(".axis", 0, 1));
  found.scheme.group_size = in_range(".group_size", 1, int64_t{1} << 31);
  found.scheme.symmetric = false;
  found.scheme.real_zero = true;
  const auto scale = checkpoint_->tensors().find(linear.name + ".scale");
  if (scale != checkpoint_->tensors().end()) {
    const DType dtype = scale->second.dtype;
    if (dtype == DType::F16 || dtype == DType::BF16 || dtype == DType::F32) found.scale_dtype = dtype;
  }
  if (const auto reason = hqq_target().refuses(found))
    user_error("{}: '{}' can't be read: {}", checkpoint_->folder().string(), linear.name, *reason);
  return found;
}

/// Every tensor that the scheme implies is there as it should be, and none beside them.
void HqqReader::check(const PlannedLinear& linear) const {
  const auto& tensors = checkpoint_->tensors();
  std::vector<std::string> known = {linear.name + ".bias"};
  for (const PlannedTensor& expected : hqq_layout(linear)) {
    known.push_back(expected.name);
    const auto found = tensors.find(expected.name);
    if (found == tensors.end()) {
      user_error("{}: tensor '{}' is missing: expected {}", checkpoint_->folder().string(), expected.name,
                 expected.info.describe());
    }
    if (found->second != expected.info)
      user_error("{}: expected {}, found {}", describe_tensor(*checkpoint_, expected.name),
                 expected.info.describe(), found->second.describe());
  }
  for (const auto& [name, value] : hqq_facts(linear)) {
    if (name.ends_with(".optimize") || name.ends_with(".round_zero")) continue;  // how it was made
    const at::Tensor found = borrow(checkpoint_->view(name));
    if (!found.equal(value))
      user_error("{}: expected {}, found {}", describe_tensor(*checkpoint_, name), text_of(value),
                 text_of(found));
  }
  const std::string prefix = linear.name + ".";
  for (auto it = tensors.lower_bound(prefix); it != tensors.end() && it->first.starts_with(prefix); ++it) {
    if (std::ranges::find(known, it->first) == known.end())
      user_error("{}: not expected beside a linear stored as {}", describe_tensor(*checkpoint_, it->first),
                 linear.scheme.describe());
  }
}

at::Tensor HqqReader::parameters(const PlannedLinear& linear, const char* suffix) const {
  const auto shape = linear.scheme.parameter_shape(linear.out, linear.in);
  return read_float_tensor(*checkpoint_, linear.name + suffix).view(shape);
}

QuantizedTensor HqqReader::read(const std::string& name) const {
  const auto found = linears_.find(name);
  LATHE_ASSERT(found != linears_.end(), "'{}' is not a packed linear", name);
  const PlannedLinear& linear = found->second;
  QuantizedTensor tensor{linear.scheme,
                         linear.scale_dtype,
                         {},
                         parameters(linear, ".scale"),
                         parameters(linear, ".zero") + linear.scheme.qmin()};
  const at::Tensor bad = tensor.scales <= 0;
  if (bad.any().item<bool>()) {
    user_error("{}: the scale at {} is {:g}: expected a positive number",
               describe_tensor(*checkpoint_, name + ".scale"), first_index(bad),
               tensor.scales.masked_select(bad)[0].item<float>());
  }
  tensor.codes = hqq_unpack(borrow(checkpoint_->view(name + ".W_q")), linear.scheme, linear.out, linear.in);
  checkpoint_->release(name + ".W_q");
  return tensor;
}

std::map<std::string, TensorInfo> HqqReader::unpacked_tensors() const {
  std::map<std::string, TensorInfo> tensors = checkpoint_->tensors();
  for (const auto& [name, linear] : linears_) {
    for (const PlannedTensor& part : hqq_layout(linear)) tensors.erase(part.name);
    tensors[name + ".weight"] = {float_dtype_, {linear.out, linear.in}};
  }
  return tensors;
}

}  // namespace lathe
