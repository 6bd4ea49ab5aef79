// How an engine keeps the keys and values of past tokens: a value type beside Scheme (weights) and
// ActivationScheme (inputs of linears).
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "lib/tensor/tensor_view.h"

namespace lathe {

/// What a number's rounding errors weigh where levels are found: the squared derivative of attention's
/// output (lib/model/cache_sensitivity.h), or of the model's loss (calib/driver/cache_gradients.h).
enum class KvCacheWeights : uint8_t { attention, fisher };
inline const char* name_of(KvCacheWeights weights) {
  return weights == KvCacheWeights::attention ? "attention" : "fisher";
}

/// "1.5 bits" of SKVQ: three levels. (Its authors' kernels spend two bits on such a code; five fit a byte.)
inline constexpr double kTernaryBits = 1.5;
inline constexpr int64_t kTernaryCodes = 5;  // in a byte, 3^5 = 243

/// Levels of a code: 3 of kTernaryBits, 2^bits of whole bits, 1 to 8.
int cache_levels(double bits);
/// Bits that a code takes in memory where a token's `channels` codes are packed: five ternary ones in a byte.
double stored_code_bits(double bits, int64_t channels);

/// float, int: one symmetric scale for all keys of a layer and one for all its values, or one of each for
/// every KV head, found in calibration: x ~ scale * q, with q in OCP FP8 E4M3 (type float; what vLLM reads)
/// or an 8-bit integer (type int).
///
/// Fewer bits, by a method; what it calibrates stands in a file of its own (formats/targets/kv_cache_file.h),
/// and what isn't rounded is FP16:
///   kivi     Liu et al. 2024 (arXiv 2402.02750): keys in groups of tokens of a channel, values in groups of
///            channels of a token, each with its range; the latest tokens in FP16. Nothing is calibrated.
///   kvquant  Hooper et al. 2024 (arXiv 2401.18079): keys before rotation with calibrated ranges of channels,
///            values with each token's range, both on levels that k-means found; outliers and the first
///            tokens in FP16.
///   skvq     Duanmu et al. 2024 (arXiv 2405.06219): channels ordered so that like ones share a group, each
///            group of a token with its range, clipped; the first and the latest tokens in FP16. Its 1.5 bits
///            are three levels.
struct KvCacheScheme {
  std::string type = "float";
  double bits = 8;          // of a number; by the methods: of a key's, and
  double value_bits = 8;    // of a value's; kTernaryBits: three levels, else whole
  int64_t group_size = 0;   // kivi: tokens (keys) and channels (values); skvq: channels, on the average
  int64_t window = 0;       // kivi, skvq: the latest tokens, in FP16
  int64_t sink = 0;         // kvquant, skvq: the first tokens, in FP16
  double outliers = 0;      // kvquant: share of a vector that is kept in FP16
  bool q_norm = false;      // kvquant: levels moved so that mean and deviation are kept
  bool fp8_scales = false;  // skvq: ranges in FP8 (E4M3) instead of FP16
  bool per_head = false;    // float, int: a scale for each KV head
  KvCacheWeights weights = KvCacheWeights::attention;  // kvquant: of errors, for its levels

  bool floating() const { return type == "float"; }
  /// Fewer than 8 bits, by a method with a file of its own?
  bool low_bit() const { return type != "float" && type != "int"; }
  /// Are there parameters that calibration finds?
  bool calibrated() const { return type != "kivi"; }
  /// What the largest magnitude is divided by to give the scale: E4M3's largest number, 448, or half the
  /// integers' span, 127.5 (compressed-tensors: calculate_qparams). Of float and int.
  double span() const { return floating() ? 448.0 : 127.5; }
  /// "fp8 (e4m3) per tensor", "int8 per head", "kivi: int2 keys by channel, int2 values by token, g32, the
  /// last 128 tokens in FP16"
  std::string describe() const;
  bool operator==(const KvCacheScheme&) const = default;
};

/// The width of what a layer caches for a token.
struct KvCacheShape {
  int64_t heads = 0, head_dim = 0;  // KV heads

  int64_t channels() const { return heads * head_dim; }
};

/// Why the scheme can't be for these heads: "group_size 32 doesn't divide the head size, 48"; nothing if it
/// can.
std::optional<std::string> kv_cache_refuses(const KvCacheScheme& scheme, const KvCacheShape& shape);

/// Of a query at position t (from 0), whose cache holds tokens 0 .. t: keys (values) of tokens sink .. n - 1
/// have been rounded, the others are in FP16. Token by token, as an engine decodes; of a prompt it rounds the
/// same ones (the methods' prefill leaves the cache that decoding would). 0 <= n <= t + 1. Of low_bit()
/// schemes.
int64_t rounded_keys(const KvCacheScheme& scheme, int64_t t);
int64_t rounded_values(const KvCacheScheme& scheme, int64_t t);

/// What a key or value takes, on the average of both, in a cache of `tokens` tokens: codes, ranges (FP16, or
/// as the scheme says), outliers (FP16 value and 16-bit index), and tokens in FP16. Parameters that don't
/// grow with the tokens are left out.
double kv_cache_bits(const KvCacheScheme& scheme, const KvCacheShape& shape, int64_t tokens);

/// A calibrated tensor of one attention module.
struct KvCacheParameter {
  std::string name;  // "key_levels"
  TensorInfo info;
};
/// Those of a low_bit() scheme, in order. C channels, G groups, b bits:
///   kvquant  key_lower, key_upper F32 [C]: of a channel; a key beyond them is an outlier
///            key_levels F32 [2^b], value_levels F32 [2^value_bits]: ascending, of values scaled to [-1, 1]
///            key_norm, value_norm F32 [2]: factor and offset of the levels, with q_norm
///   skvq     key_order, value_order I32 [C]: the channel that stands at each place
///            key_begins, value_begins I32 [G + 1]: the places at which groups begin, and C
///            key_clip, value_clip F32 [G]: what a group's range is multiplied by
std::vector<KvCacheParameter> kv_cache_parameters(const KvCacheScheme& scheme, const KvCacheShape& shape);

/// One layer's.
struct KvCacheQuantizer {
  KvCacheScheme scheme;
  std::vector<float> k_scales = {1}, v_scales = {1};  // of float and int, one or one a KV head: finite, > 0
  std::map<std::string, at::Tensor> parameters = {};  // of low_bit() schemes, by name, on the CPU
};
/// What is wrong with a low_bit() layer's parameters ("key_levels: expected F32 [16], found none"); nothing
/// where they are those that the scheme has, finite, ascending, a permutation, ... as each has to be.
std::optional<std::string> kv_cache_problem(const KvCacheQuantizer& quantizer, const KvCacheShape& shape);
/// The same scheme, scales and bits of parameters?
bool same_quantizer(const KvCacheQuantizer& a, const KvCacheQuantizer& b);

/// The scale of values whose largest magnitude is `largest` (finite): the smallest that clips none of them. 1
/// where all are 0, as vLLM takes it.
float kv_cache_scale(const KvCacheScheme& scheme, float largest);

}  // namespace lathe
