// How an engine keeps the keys and values of past tokens: a value type beside Scheme (weights) and
// ActivationScheme (inputs of linears).
#pragma once

#include <string>

namespace lathe {

/// One symmetric scale for all keys of a layer and one for all its values, found in calibration: x ~ scale *
/// q, with q in OCP FP8 E4M3 (type float; what vLLM reads) or an 8-bit integer (type int).
struct KvCacheScheme {
  std::string type = "float";
  int bits = 8;

  bool floating() const { return type == "float"; }
  /// What the largest magnitude is divided by to give the scale: E4M3's largest number, 448, or half the
  /// integers' span, 127.5 (compressed-tensors: calculate_qparams).
  double span() const { return floating() ? 448.0 : 127.5; }
  /// "fp8 (e4m3) per tensor", "int8 per tensor"
  std::string describe() const;
  bool operator==(const KvCacheScheme&) const = default;
};

/// One layer's.
struct KvCacheQuantizer {
  KvCacheScheme scheme;
  float k_scale = 1, v_scale = 1;  // finite, > 0
};

/// The scale of values whose largest magnitude is `largest` (finite): the smallest that clips none of them. 1
/// where all are 0, as vLLM takes it.
float kv_cache_scale(const KvCacheScheme& scheme, float largest);

}  // namespace lathe
