#include "lib/kernels/skvq.h"

#include <ATen/ATen.h>

namespace lathe::kernels {
namespace {

at::Tensor stored(const at::Tensor& x) { return x.clamp(-448, 448).to(at::kFloat8_e4m3fn).to(at::kHalf); }

at::Tensor round_side(const at::Tensor& x, const KvCacheQuantizer& cache, const std::string& side,
                      double bits) {
  const auto parameter = [&](const char* name) { return cache.parameters.at(side + name); };
  const at::Tensor order = parameter("_order").to(x.device(), at::kLong);
  const at::Tensor begins = parameter("_begins"), clip = parameter("_clip");
  const at::Tensor flat = x.to(at::kHalf).reshape({x.size(0) * x.size(1), -1}).index_select(1, order);
  const at::Tensor out = at::empty_like(flat);
  for (int64_t g = 0; g < clip.size(0); ++g) {
    const int64_t begin = begins[g].item<int>(), end = begins[g + 1].item<int>();
    out.slice(1, begin, end)
        .copy_(skvq_group(flat.slice(1, begin, end), clip[g].item<float>(), cache_levels(bits),
                          cache.scheme.fp8_scales));
  }
  return out.index_select(1, order.argsort()).view(x.sizes()).to(at::kFloat);
}

}  // namespace

// In FP16 arithmetic: ATen computes each step in FP32 and rounds it, on any device.
at::Tensor skvq_group(const at::Tensor& numbers, float clip, int levels, bool fp8_scales) {
  const auto number = [&](double value) { return at::full({}, value, numbers.options()); };
  const int most = levels - 1;
  auto [least, largest] = at::aminmax(numbers, 1, /*keepdim=*/true);
  least = (least.to(at::kFloat) * clip).to(at::kHalf);
  largest = (largest.to(at::kFloat) * clip).to(at::kHalf);
  const at::Tensor scale = at::maximum((largest - least).div_(number(most)), number(1e-5));
  at::Tensor codes = (numbers - least).div_(scale).clamp_(0, most).round_();
  return codes.mul_(fp8_scales ? stored(scale) : scale).add_(fp8_scales ? stored(least) : least);
}

at::Tensor skvq_keys(const at::Tensor& x, const KvCacheQuantizer& cache) {
  return round_side(x, cache, "key", cache.scheme.bits);
}

at::Tensor skvq_values(const at::Tensor& x, const KvCacheQuantizer& cache) {
  return round_side(x, cache, "value", cache.scheme.value_bits);
}

}  // namespace lathe::kernels
