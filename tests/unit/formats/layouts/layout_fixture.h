// Quantised tensors of known numbers: the same as tests/tools/make_layout_golden.py makes.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <string>
#include <vector>

#include "formats/layouts/layout.h"
#include "lib/base/error.h"
#include "lib/tensor/aten.h"

namespace lathe::test {

inline uint32_t mixed(int64_t n, int64_t k, uint32_t salt) {
  uint32_t x = static_cast<uint32_t>(n) * 0x9E3779B1u ^ static_cast<uint32_t>(k) * 0x85EBCA77u ^ salt;
  x ^= x >> 15;
  x *= 0x2C1B3C6Du;
  return x ^ x >> 12;
}

template <class Value, class Make>
at::Tensor table(int64_t rows, int64_t columns, at::ScalarType type, const Make& make) {
  at::Tensor result = at::empty({rows, columns}, type);
  auto* values = result.data_ptr<Value>();
  for (int64_t i = 0; i < rows * columns; ++i) values[i] = static_cast<Value>(make(i / columns, i % columns));
  return result;
}

/// The linear "m" with W[out, in].
inline PlannedLinear planned(int64_t out, int64_t in, const Scheme& scheme, DType scale_dtype = DType::F16) {
  PlannedLinear linear;
  linear.name = "m";
  linear.out = out;
  linear.in = in;
  linear.scheme = scheme;
  linear.scale_dtype = scale_dtype;
  return linear;
}

/// The grid's codes, scales n / 4096 for n from 1 to 1000, and any zero points.
inline QuantizedTensor known_tensor(const PlannedLinear& linear) {
  const Scheme& scheme = linear.scheme;
  const uint32_t mask = (1u << scheme.bits) - 1;
  const int64_t groups = scheme.groups(linear.in), lowest = scheme.qmin();
  QuantizedTensor tensor{scheme, linear.scale_dtype, {}, {}, {}};
  const auto number = [&](uint32_t salt) {
    return [=](int64_t n, int64_t k) { return static_cast<int64_t>(mixed(n, k, salt) & mask) + lowest; };
  };
  tensor.codes = table<int8_t>(linear.out, linear.in, at::kChar, number(0));
  tensor.scales = table<float>(linear.out, groups, at::kFloat, [](int64_t n, int64_t k) {
    return static_cast<float>(mixed(n, k, 1) % 1000 + 1) / 4096;
  });
  tensor.scales = round_to(tensor.scales, linear.scale_dtype);
  if (!scheme.symmetric) tensor.zero_points = table<int8_t>(linear.out, groups, at::kChar, number(2));
  return tensor;
}

/// The same with columns in groups of a random order.
inline QuantizedTensor reordered(PlannedLinear& linear) {
  linear.group_index = true;
  QuantizedTensor tensor = known_tensor(linear);
  at::manual_seed(5);
  const at::Tensor groups =
      at::arange(linear.in, at::kInt).div(linear.scheme.group_length(linear.in), "floor").to(at::kInt);
  tensor.group_index = groups.index_select(0, at::randperm(linear.in, at::kLong)).contiguous();
  return tensor;
}

inline const KernelLayout& layout_named(const std::string& name) {
  const KernelLayout* layout = find_kernel_layout(name);
  LATHE_ASSERT(layout != nullptr, "layout '{}'", name);
  return *layout;
}

/// pack(), by the tensor's name without the linear's; shapes and types are what tensors() said.
inline std::map<std::string, at::Tensor> packed(const KernelLayout& layout, const PlannedLinear& linear,
                                                const QuantizedTensor& tensor) {
  const std::vector<PlannedTensor> planned = layout.tensors(linear);
  const std::vector<at::Tensor> contents = layout.pack(linear, tensor);
  LATHE_ASSERT(planned.size() == contents.size(), "{}: {} tensors planned, {} packed", layout.name,
               planned.size(), contents.size());
  std::map<std::string, at::Tensor> result;
  for (size_t i = 0; i < planned.size(); ++i) {
    LATHE_ASSERT(info_of(contents[i]).dtype == planned[i].info.dtype &&
                     info_of(contents[i]).shape == planned[i].info.shape && contents[i].is_contiguous(),
                 "{}: {} is not as planned", layout.name, planned[i].name);
    result[planned[i].name.substr(linear.name.size() + 1)] = contents[i];
  }
  return result;
}

}  // namespace lathe::test
