// KIVI's KV cache (lib/numeric/kivi.h) for all tokens of a layer at once: what stands for an engine's cache
// where a model is simulated.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace lathe::kernels {

/// x [b, s, kv_heads, head_dim], of any float dtype and device -> what its numbers come back as, FP16 values
/// in FP32. Equal to round_kivi_group() of each group, bit for bit.
///
/// Keys: groups of `group` tokens of a channel, from the row's first token on. Tokens behind the last whole
/// group are FP16 as they are: no key leaves the window but in whole groups.
at::Tensor kivi_keys(const at::Tensor& x, int bits, int64_t group);
/// Values: groups of `group` channels of a token's head; head_dim is a multiple of it.
at::Tensor kivi_values(const at::Tensor& x, int bits, int64_t group);

}  // namespace lathe::kernels
