// What the references of KV caches make of random numbers (tests/golden/kv_cache).
#pragma once

#include <ATen/ATen.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace lathe::kernels::test {

inline nlohmann::json cache_golden(const std::string& name) {
  std::ifstream file(LATHE_SOURCE_DIR "/tests/golden/kv_cache/" + name + ".json");
  return nlohmann::json::parse(file);
}

/// FP16 numbers given by their bits, in FP32.
inline at::Tensor half_numbers(const nlohmann::json& bits, at::IntArrayRef shape) {
  return at::tensor(bits.get<std::vector<int16_t>>(), at::kShort).view(shape).view(at::kHalf).to(at::kFloat);
}

inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && a.contiguous().view(at::kInt).equal(b.contiguous().view(at::kInt));
}

}  // namespace lathe::kernels::test
