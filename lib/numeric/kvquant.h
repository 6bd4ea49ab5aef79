// The number grids of KVQuant's cache (Hooper et al. 2024, arXiv 2401.18079, sections 3.1 to 3.5): levels
// that k-means found (lib/numeric/weighted_kmeans.h), stretched to a channel's (keys) or a token's (values)
// range, with outliers kept beside them. This file is the definition, one number and one token at a time, as
// the reference simulates it (github.com/SqueezeAILab/KVQuant, simquant_module_quantizer.py);
// lib/kernels/kvquant.h does whole caches. Everything is FP32 but where FP16 is said.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace lathe {

/// Levels for numbers in [-1, 1], ascending; Q-Norm (section 3.4) moves what they come back as.
struct KvQuantLevels {
  std::vector<float> levels;
  float factor = 1, offset = 0;  // level * factor + offset comes back

  /// The level that a scaled number is nearest to, the lower of two as near, as it comes back.
  float nearest(float scaled) const;
};

/// A key's number before rotation, rounded to FP16, by its channel's calibrated range [lower, upper] (FP16
/// values): beyond it it is an outlier and comes back as it is, else as
///   nearest((x - middle) / half) * half + middle, rounded to FP16,
/// with middle and half the range's middle and half its width in FP16. A range of one number gives its
/// middle.
float round_kvquant_key(float x, float lower, float upper, const KvQuantLevels& levels);

/// A token's values (all KV heads), rounded to FP16. Outliers, which come back as they are, are those at or
/// beyond the quantiles outliers / 2 and 1 - outliers / 2 of the token's numbers (linear between two of them;
/// none for a share of 0); the range is that of the others, and the same formula holds. `out` is as long.
void round_kvquant_token(std::span<const float> values, const KvQuantLevels& levels, double outliers,
                         std::span<float> out);

/// How many of `count` numbers, all different, are outliers of a token.
size_t kvquant_outliers(double outliers, size_t count);

}  // namespace lathe
