#include "lib/kernels/kv_cache_quant.h"

#include <ATen/ATen.h>

#include "lib/base/error.h"
#include "lib/kernels/input_quant.h"
#include "lib/kernels/kivi.h"
#include "lib/kernels/kvquant.h"
#include "lib/kernels/skvq.h"

namespace lathe::kernels {

namespace {

/// By one scale, which is what a static scale of a linear's input is: the same arithmetic, and its kernel.
/// Values pass in the order in which they lie in memory where they fill it, so that heads that lie apart
/// aren't copied.
at::Tensor round_by(const at::Tensor& x, const KvCacheScheme& scheme, float scale) {
  ActivationScheme grid = scheme.floating() ? ActivationScheme::of_floats("fp8_e4m3") : ActivationScheme{};
  grid.dynamic = false;
  grid.per = ActivationScheme::Per::tensor;
  const InputQuantizer quantizer{grid, scale};
  if (x.numel() == 0 || !x.is_non_overlapping_and_dense()) return fake_quantize_input(x, quantizer);
  const int64_t width = x.size(-1) * x.size(1);  // a token's; threads share rows
  const at::Tensor values = x.as_strided({x.numel() / width, width}, {width, 1});
  return fake_quantize_input(values, quantizer).as_strided(x.sizes(), x.strides());
}

}  // namespace

at::Tensor fake_quantize_cache(const at::Tensor& x, const KvCacheScheme& scheme,
                               const std::vector<float>& scales) {
  LATHE_ASSERT(scheme.bits == 8 && x.dim() == 4, "KV cache of {} bits, {} dimensions", scheme.bits, x.dim());
  LATHE_ASSERT(scales.size() == 1 || static_cast<int64_t>(scales.size()) == x.size(1),
               "KV cache: {} scales for {} heads", scales.size(), x.size(1));
  if (scales.size() == 1) return round_by(x, scheme, scales.front());
  std::vector<at::Tensor> heads;
  for (size_t head = 0; head < scales.size(); ++head)
    heads.push_back(round_by(x.select(1, static_cast<int64_t>(head)).contiguous(), scheme, scales[head]));
  return at::stack(heads, 1);
}

bool rounds_rotated_keys(const KvCacheScheme& scheme) { return scheme.type == "kivi"; }

at::Tensor round_cached_keys(const at::Tensor& x, const KvCacheQuantizer& cache) {
  const KvCacheScheme& scheme = cache.scheme;
  if (scheme.type == "kivi") return kivi_keys(x, static_cast<int>(scheme.bits), scheme.group_size);
  if (scheme.type == "kvquant") return kvquant_keys(x, cache);
  if (scheme.type == "skvq") return skvq_keys(x, cache);
  internal_error("keys of a KV cache of type {}", scheme.type);
}

at::Tensor round_cached_values(const at::Tensor& x, const KvCacheQuantizer& cache) {
  const KvCacheScheme& scheme = cache.scheme;
  if (scheme.type == "kivi") return kivi_values(x, static_cast<int>(scheme.value_bits), scheme.group_size);
  if (scheme.type == "kvquant") return kvquant_values(x, cache);
  if (scheme.type == "skvq") return skvq_values(x, cache);
  internal_error("values of a KV cache of type {}", scheme.type);
}

}  // namespace lathe::kernels
