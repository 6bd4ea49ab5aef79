#include "lib/kernels/kv_cache_quant.h"

#include <ATen/ATen.h>

#include "lib/base/error.h"
#include "lib/kernels/kivi.h"
#include "lib/kernels/kvquant.h"
#include "lib/kernels/skvq.h"

namespace lathe::kernels {

at::Tensor fake_quantize_cache(const at::Tensor& x, const KvCacheScheme& scheme,
                               const std::vector<float>& scales) {
  LATHE_ASSERT(scheme.bits == 8 && x.dim() == 4, "KV cache of {} bits, {} dimensions", scheme.bits, x.dim());
  LATHE_ASSERT(scales.size() == 1 || static_cast<int64_t>(scales.size()) == x.size(1),
               "KV cache: {} scales for {} heads", scales.size(), x.size(1));
  // By a tensor: ATen multiplies by the reciprocal of a number on some devices.
  const at::Tensor step = at::tensor(scales, at::kFloat).to(x.device()).view({-1, 1, 1});
  at::Tensor codes = x.to(at::kFloat) / step;
  if (scheme.floating()) {
    codes = codes.clamp_(-448, 448).to(at::kFloat8_e4m3fn).to(at::kFloat);
  } else {
    codes.round_().clamp_(-128, 127);
  }
  return codes.mul_(step).to(x.scalar_type());
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
