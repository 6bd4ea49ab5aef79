#include "formats/targets/layout_reader.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "formats/targets/float_reader.h"
#include "lib/base/error.h"
#include "lib/tensor/aten.h"

namespace lathe {

LayoutReader::LayoutReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelGraph& graph)
    : checkpoint_(std::move(checkpoint)), float_dtype_(graph.config.dtype) {}

std::string LayoutReader::where() const { return checkpoint_->quantization_place(); }

PlannedLinear LayoutReader::planned(const Linear& linear, const Scheme& scheme) const {
  PlannedLinear result{.name = linear.name,
                       .out = linear.out,
                       .in = linear.in,
                       .scheme = scheme,
                       .scale_dtype = DType::F16,
                       .role = linear.role,
                       .expert = linear.input.expert.has_value()};
  const auto scales = checkpoint_->tensors().find(linear.name + ".scales");
  if (scales != checkpoint_->tensors().end() && scales->second.dtype == DType::BF16)
    result.scale_dtype = DType::BF16;
  return result;
}

void LayoutReader::add(const PlannedLinear& linear, const std::vector<PlannedTensor>& expected,
                       const std::string& optional) {
  const auto& tensors = checkpoint_->tensors();
  std::vector<std::string> known = {linear.name + ".bias"};
  for (const PlannedTensor& tensor : expected) {
    known.push_back(tensor.name);
    const auto found = tensors.find(tensor.name);
    if (found == tensors.end()) {
      if (!optional.empty() && tensor.name.ends_with(optional)) continue;
      user_error("{}: tensor '{}' is missing: expected {}", checkpoint_->folder().string(), tensor.name,
                 tensor.info.describe());
    }
    if (found->second != tensor.info) {
      user_error("{}: expected {}, found {}", describe_tensor(*checkpoint_, tensor.name),
                 tensor.info.describe(), found->second.describe());
    }
    packed_tensors_.push_back(tensor.name);
  }
  const std::string prefix = linear.name + ".";
  for (auto it = tensors.lower_bound(prefix); it != tensors.end() && it->first.starts_with(prefix); ++it) {
    if (std::ranges::find(known, it->first) != known.end()) continue;
    user_error("{}: not expected beside a linear stored as {}", describe_tensor(*checkpoint_, it->first),
               linear.scheme.describe());
  }
  linears_.emplace(linear.name, linear);
  schemes_.emplace(linear.name, linear.scheme);
}

void LayoutReader::check_floating(const Linear& linear, const std::vector<const char*>& suffixes) const {
  for (const char* suffix : suffixes) {
    const std::string name = linear.name + suffix;
    if (!checkpoint_->contains(name)) continue;
    user_error("{}: is stored, but {} leaves '{}' in floating point", describe_tensor(*checkpoint_, name),
               where(), linear.name);
  }
}

PlannedTensor LayoutReader::of_floats(const std::string& name, std::vector<int64_t> shape) const {
  const auto found = checkpoint_->tensors().find(name);
  const DType type = found == checkpoint_->tensors().end() ? DType::F16 : found->second.dtype;
  const bool floating = type == DType::F16 || type == DType::BF16 || type == DType::F32;
  return {name, {floating ? type : DType::F16, std::move(shape)}};
}

const PlannedLinear& LayoutReader::linear(const std::string& name) const {
  const auto found = linears_.find(name);
  LATHE_ASSERT(found != linears_.end(), "'{}' is not a packed linear", name);
  return found->second;
}

at::Tensor LayoutReader::words(const std::string& name) const { return borrow(checkpoint_->view(name)); }

at::Tensor LayoutReader::positive_scales(const std::string& name, int64_t columns) const {
  at::Tensor scales = read_float_tensor(*checkpoint_, name);
  release(name);
  if (columns >= 0) scales = scales.narrow(1, 0, columns).contiguous();
  const at::Tensor bad = scales <= 0;
  if (bad.any().item<bool>()) {
    user_error("{}: the scale at {} is {:g}: expected a positive number", describe_tensor(*checkpoint_, name),
               first_index(bad), scales.masked_select(bad)[0].item<float>());
  }
  return scales;
}

std::map<std::string, TensorInfo> LayoutReader::unpacked_tensors() const {
  std::map<std::string, TensorInfo> tensors = checkpoint_->tensors();
  for (const std::string& name : packed_tensors_) tensors.erase(name);
  for (const auto& [name, linear] : linears_)
    tensors[name + ".weight"] = {float_dtype_, {linear.out, linear.in}};
  return tensors;
}

}  // namespace lathe
