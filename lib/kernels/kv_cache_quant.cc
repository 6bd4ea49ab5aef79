#include "lib/kernels/kv_cache_quant.h"

#include <ATen/ATen.h>

#include "lib/base/error.h"

namespace lathe::kernels {

at::Tensor fake_quantize_cache(const at::Tensor& x, const KvCacheScheme& scheme, float scale) {
  LATHE_ASSERT(scheme.bits == 8 && scale > 0, "KV cache of {} bits, scale {}", scheme.bits, scale);
  // By a tensor: ATen multiplies by the reciprocal of a number on some devices.
  const at::Tensor step = at::full({}, scale, x.options().dtype(at::kFloat));
  at::Tensor codes = x.to(at::kFloat) / step;
  if (scheme.floating()) {
    codes = codes.clamp_(-448, 448).to(at::kFloat8_e4m3fn).to(at::kFloat);
  } else {
    codes.round_().clamp_(-128, 127);
  }
  return codes.mul_(step).to(x.scalar_type());
}

}  // namespace lathe::kernels
