#include <ATen/ATen.h>

#include "lib/base/error.h"
#include "lib/model/forward.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

std::string weight_name(const std::string& module) { return module + ".weight"; }
std::string bias_name(const std::string& module) { return module + ".bias"; }

void check_shape(const std::string& name, const at::Tensor& tensor, at::IntArrayRef shape) {
  LATHE_ASSERT(tensor.defined() && tensor.sizes() == shape, "{}: expected {}, got {}", name,
               describe_shape(shape.vec()),
               tensor.defined() ? describe_shape(tensor.sizes().vec()) : "no tensor");
}

}  // namespace

std::string attention_module(const Block& block) {
  for (const LinearRole role : {LinearRole::k_proj, LinearRole::qkv_proj}) {
    const Linear* const linear = block.find(role);
    if (linear != nullptr) return linear->name.substr(0, linear->name.rfind('.'));
  }
  return {};
}

BlockWeights::BlockWeights(const Block& block, const WeightSource& source, c10::Device device, DType compute)
    : compute_(compute) {
  const auto load = [&](const std::string& name, at::IntArrayRef shape) {
    at::Tensor tensor = source.load(name);
    check_shape(name, tensor, shape);
    tensors_[name] = tensor.to(device);
  };
  for (const Norm* norm : block.norms()) load(weight_name(norm->name), {norm->width});
  for (const Linear& linear : block.linears) {
    load(weight_name(linear.name), {linear.out, linear.in});
    if (linear.bias) load(bias_name(linear.name), {linear.out});
    if (const auto quantizer = source.input_quantizer(linear.name)) inputs_[linear.name] = *quantizer;
  }
  if (const std::string attention = attention_module(block); !attention.empty())
    kv_cache_ = source.kv_cache(attention);
}

at::Tensor BlockWeights::weight(const Linear& linear) const {
  const auto found = tensors_.find(weight_name(linear.name));
  LATHE_ASSERT(found != tensors_.end(), "no weight of {}", linear.name);
  return found->second.to(at::kFloat);
}

at::Tensor BlockWeights::norm(const Norm& norm) const {
  const auto found = tensors_.find(weight_name(norm.name));
  LATHE_ASSERT(found != tensors_.end(), "no norm '{}'", norm.name);
  return found->second.to(at::kFloat);
}

at::Tensor BlockWeights::bias(const Linear& linear) const {
  const auto found = tensors_.find(bias_name(linear.name));
  return found == tensors_.end() ? at::Tensor() : found->second.to(at::kFloat);
}

void BlockWeights::set_weight(const Linear& linear, at::Tensor weight) {
  check_shape(linear.name, weight, {linear.out, linear.in});
  rounded_.erase(weight_name(linear.name));
  tensors_[weight_name(linear.name)] = std::move(weight);
}

void BlockWeights::set_bias(const Linear& linear, at::Tensor bias) {
  check_shape(linear.name, bias, {linear.out});
  rounded_.erase(bias_name(linear.name));
  tensors_[bias_name(linear.name)] = std::move(bias);
}

void BlockWeights::set_norm(const Norm& norm, at::Tensor weight) {
  check_shape(norm.name, weight, {norm.width});
  tensors_.at(weight_name(norm.name)) = std::move(weight);
}

void BlockWeights::set_input_quantizer(const Linear& linear, InputQuantizer quantizer) {
  inputs_[linear.name] = std::move(quantizer);
}

const InputQuantizer* BlockWeights::input_quantizer(const Linear& linear) const {
  const auto found = inputs_.find(linear.name);
  return found == inputs_.end() ? nullptr : &found->second;
}

at::Tensor BlockWeights::compute_weight(const Linear& linear) const {
  LATHE_ASSERT(tensors_.contains(weight_name(linear.name)), "no weight of {}", linear.name);
  return in_compute_dtype(weight_name(linear.name));
}

at::Tensor BlockWeights::compute_bias(const Linear& linear) const {
  return tensors_.contains(bias_name(linear.name)) ? in_compute_dtype(bias_name(linear.name)) : at::Tensor();
}

at::Tensor BlockWeights::in_compute_dtype(const std::string& name) const {
  const at::Tensor& held = tensors_.at(name);
  if (held.scalar_type() == to_scalar_type(compute_)) return held;
  at::Tensor& rounded = rounded_[name];
  if (!rounded.defined()) rounded = held.to(to_scalar_type(compute_));
  return rounded;
}

void BlockWeights::replace_each(const std::function<at::Tensor(const at::Tensor&)>& change) {
  rounded_.clear();
  for (auto& [name, tensor] : tensors_) tensor = change(tensor);
}

bool BlockWeights::holds_weight(const Linear& linear) const {
  return tensors_.contains(weight_name(linear.name));
}

void BlockWeights::drop_weight(const Linear& linear) {
  rounded_.erase(weight_name(linear.name));
  tensors_.erase(weight_name(linear.name));
}

at::Tensor BlockWeights::take_weight(const Linear& linear) {
  at::Tensor weight = this->weight(linear);
  drop_weight(linear);
  return weight;
}

}  // namespace lathe
