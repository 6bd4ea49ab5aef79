// The search for ggml's blocks on the CPU: threads over rows, one block in the first-level cache.
//
// Problem. A block stands for scale * level - minimum in each sub-block of 16 or 32 values, where scale and
// minimum are themselves codes of 4, 6 or 8 bits times the super-block's d and dmin, which are halves. Wanted
// are all of them and the levels, so that sum_i w_i (x_i - value_i)^2 is least, w the importances.
//
// Search (our own; ggml's weights also depend on |x|, which is not the error that counts):
//  1. Each sub-block by itself, in real numbers: candidates for the grid's span give levels, the levels give
//     scale and minimum by least squares, the best is refined until its levels stay (fit_scale, fit_affine).
//  2. d and dmin: the same fit, of the sub-blocks' scales (and minima) to the grid of their codes, weighted
//  by
//     what a scale's error costs, sum w l^2. They are rounded to halves now, and nothing after assumes more.
//  3. Scale codes and minimum codes: the rounded ones and their neighbours, by the true error of the final
//     numbers with the levels rounded again.
//  4. d and dmin again, by least squares over the whole super-block for the codes found; 3 once more, and
//  kept
//     where the sum falls.
// Cost: some 30 passes over a block that fits in registers; no memory traffic but the row itself.
//
// Numerics: FP32, no contraction, sums in the order of 16 lanes: the same bytes on every CPU and thread
// count.
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "lib/kernels/ggml_quant.h"
#include "lib/kernels/ggml_search.h"
#include "lib/kernels/target_clones.h"
#include "lib/numeric/ggml_block.h"

namespace lathe::kernels::cpu {
namespace {

using namespace ggml;

constexpr int kSuper = 256;
constexpr int64_t kGrainValues = 1 << 13;

/// From a level to its code.
struct Coding {
  int offset = 0;                  // code = level + offset, where there is no table
  const uint8_t* table = nullptr;  // at level + 128
};

template <int vectors, class Grid>
LATHE_INLINE void assign(const Values& v, const Grid& grid, float scale, float minimum, Coding coding,
                         uint8_t* codes) {
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  for (int k = 0; k < vectors; ++k) {
    float levels[kLanes];
    const Lanes level = grid.nearest((load(v.x + k * kLanes) + minimum) * inverse);
    std::memcpy(levels, &level, sizeof levels);
    for (int i = 0; i < kLanes; ++i) {
      const int number = static_cast<int>(levels[i]);
      codes[k * kLanes + i] =
          coding.table != nullptr ? coding.table[number + 128] : static_cast<uint8_t>(number + coding.offset);
    }
  }
}

/// One scale for the whole block.
template <int vectors, class Grid>
LATHE_INLINE void flat_block(const Values& v, const Grid& grid, const Factors& factors, Coding coding,
                             GgmlBlock& block) {
  block.d = to_half(fit_scale<vectors>(v, grid, factors));
  assign<vectors>(v, grid, from_half(block.d), 0, coding, block.codes.data());
}

/// One scale and one minimum.
LATHE_INLINE void affine_block(const Values& v, const Uniform& grid, const Factors& factors,
                               GgmlBlock& block) {
  const Affine fit = fit_affine<2>(v, grid, factors, false);
  block.d = to_half(fit.scale);
  block.dmin = to_half(fit.minimum);
  assign<2>(v, grid, from_half(block.d), from_half(block.dmin), {}, block.codes.data());
}

/// Sub-blocks of a super-block; scale = d * (code - offset).
template <int vectors, class Grid>
struct ScaledSuper {
  static constexpr int kGroups = kSuper / (vectors * kLanes);
  const Values& v;
  const Grid& grid;
  int offset;

  LATHE_INLINE Values group(int g) const { return {v.x + g * vectors * kLanes, v.w + g * vectors * kLanes}; }

  /// Best codes for the scales wanted, given d; the super-block's error.
  LATHE_INLINE float choose(float d, const float* scales, GgmlBlock& block) const {
    const float inverse = d != 0 ? 1.0f / d : 0.0f;
    float total = 0;
    for (int g = 0; g < kGroups; ++g) {
      const float lowest = static_cast<float>(-offset), highest = static_cast<float>(offset - 1);
      const float middle = std::clamp(std::nearbyint(scales[g] * inverse), lowest, highest);
      float best = 0;
      for (float code = middle - 1; code <= middle + 1; ++code) {
        if (code < lowest || code > highest) continue;
        const float error = error_of<vectors>(group(g), grid, d * code, 0);
        if (code > std::max(middle - 1, lowest) && !(error < best)) continue;
        best = error;
        block.scales[g] = static_cast<uint8_t>(static_cast<int>(code) + offset);
      }
      total += best;
    }
    return total;
  }

  LATHE_INLINE float code(const GgmlBlock& block, int g) const {
    return static_cast<float>(block.scales[g] - offset);
  }

  LATHE_INLINE float refit_d(float d, const GgmlBlock& block) const {
    float above = 0, below = 0;
    for (int g = 0; g < kGroups; ++g) {
      const float scale = d * code(block, g);
      if (scale == 0) continue;
      const ScaleSums sums = scale_sums<vectors>(group(g), grid, 1.0f / scale);
      above += code(block, g) * sums.xl;
      below += code(block, g) * code(block, g) * sums.ll;
    }
    return below > 0 ? above / below : d;
  }
};

template <int vectors, class Grid>
LATHE_INLINE void scaled_super(const Values& v, const Grid& grid, int offset, const Factors& factors,
                               Coding coding, GgmlBlock& block) {
  const ScaledSuper<vectors, Grid> super{v, grid, offset};
  float scales[kLanes] = {}, shares[kLanes] = {};
  for (int g = 0; g < super.kGroups; ++g) {
    scales[g] = fit_scale<vectors>(super.group(g), grid, factors);
    if (scales[g] != 0) shares[g] = scale_sums<vectors>(super.group(g), grid, 1.0f / scales[g]).ll;
  }
  const Uniform codes{static_cast<float>(-offset), static_cast<float>(offset - 1)};
  block.d = to_half(fit_scale<1>({scales, shares}, codes, {0.85f, 1.0f, 8}));
  const float error = super.choose(from_half(block.d), scales, block);
  GgmlBlock again = block;
  again.d = to_half(super.refit_d(from_half(block.d), block));
  if (super.choose(from_half(again.d), scales, again) < error) block = again;
  for (int g = 0; g < super.kGroups; ++g)
    assign<vectors>(super.group(g), grid, from_half(block.d) * super.code(block, g), 0, coding,
                    block.codes.data() + g * vectors * kLanes);
}

/// Sub-blocks with minima; scale = d * code, minimum = dmin * code.
template <int vectors>
struct AffineSuper {
  static constexpr int kGroups = kSuper / (vectors * kLanes);
  const Values& v;
  const Uniform& grid;
  float highest;  // of both codes

  LATHE_INLINE Values group(int g) const { return {v.x + g * vectors * kLanes, v.w + g * vectors * kLanes}; }

  LATHE_INLINE float choose(float d, float dmin, const float* scales, const float* minima,
                            GgmlBlock& block) const {
    const float by_d = d != 0 ? 1.0f / d : 0.0f, by_dmin = dmin != 0 ? 1.0f / dmin : 0.0f;
    float total = 0;
    for (int g = 0; g < kGroups; ++g) {
      const float scale = std::clamp(std::nearbyint(scales[g] * by_d), 0.0f, highest);
      const float minimum = std::clamp(std::nearbyint(minima[g] * by_dmin), 0.0f, highest);
      float best = error_of<vectors>(group(g), grid, d * scale, dmin * minimum);
      float best_scale = scale, best_minimum = minimum;
      for (float s = std::max(0.0f, scale - 1); s <= std::min(highest, scale + 1); ++s) {
        for (float m = std::max(0.0f, minimum - 1); m <= std::min(highest, minimum + 1); ++m) {
          const float error = error_of<vectors>(group(g), grid, d * s, dmin * m);
          if (!(error < best)) continue;
          best = error, best_scale = s, best_minimum = m;
        }
      }
      block.scales[g] = static_cast<uint8_t>(best_scale);
      block.mins[g] = static_cast<uint8_t>(best_minimum);
      total += best;
    }
    return total;
  }

  /// Least squares of d and dmin for the codes: value = d (s l) - dmin m.
  LATHE_INLINE void refit_both(float& d, float& dmin, const GgmlBlock& block) const {
    float aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
    for (int g = 0; g < kGroups; ++g) {
      const float s = block.scales[g], m = block.mins[g], scale = d * s;
      const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
      Lanes l1{}, l2{}, xl{}, x1{}, w1{};
      for (int k = 0; k < vectors; ++k) {
        const Lanes x = load(group(g).x + k * kLanes), w = load(group(g).w + k * kLanes);
        const Lanes level = grid.nearest((x + dmin * m) * inverse), wl = w * level;
        w1 += w, x1 += w * x, l1 += wl, l2 += wl * level, xl += wl * x;
      }
      aa += s * s * sum(l2), ab += s * m * sum(l1), bb += m * m * sum(w1), ax += s * sum(xl),
          bx += m * sum(x1);
    }
    const float determinant = aa * bb - ab * ab;
    if (determinant > 0) {
      const float new_d = (ax * bb - bx * ab) / determinant, new_dmin = (ab * ax - aa * bx) / determinant;
      if (new_d > 0 && new_dmin >= 0) d = new_d, dmin = new_dmin;
    } else if (bb == 0 && aa > 0 && ax > 0) {
      d = ax / aa;
    }
  }
};

template <int vectors>
LATHE_INLINE void affine_super(const Values& v, const Uniform& grid, float highest, const Factors& factors,
                               GgmlBlock& block) {
  const AffineSuper<vectors> super{v, grid, highest};
  float scales[kLanes] = {}, minima[kLanes] = {}, scale_shares[kLanes] = {}, shares[kLanes] = {};
  for (int g = 0; g < super.kGroups; ++g) {
    const Values group = super.group(g);
    const Affine fit = fit_affine<vectors>(group, grid, factors, true);
    scales[g] = fit.scale > 0 ? fit.scale : 0.0f;
    minima[g] = fit.minimum;
    Lanes ll{}, w1{};
    for (int k = 0; k < vectors && scales[g] > 0; ++k) {
      const Lanes level = grid.nearest((load(group.x + k * kLanes) + minima[g]) * (1.0f / scales[g]));
      ll += load(group.w + k * kLanes) * level * level;
    }
    for (int k = 0; k < vectors; ++k) w1 += load(group.w + k * kLanes);
    scale_shares[g] = sum(ll), shares[g] = sum(w1);
  }
  const Uniform codes{0, highest};
  const Factors span{0.85f, 1.0f, 8};
  const auto fit_codes = [&](const float* wanted, const float* weights) {
    return from_half(to_half(std::max(0.0f, fit_scale<1>({wanted, weights}, codes, span))));
  };
  float d = fit_codes(scales, scale_shares), dmin = fit_codes(minima, shares);
  const float error = super.choose(d, dmin, scales, minima, block);
  block.d = to_half(d), block.dmin = to_half(dmin);
  GgmlBlock again = block;
  super.refit_both(d, dmin, block);
  d = from_half(again.d = to_half(d)), dmin = from_half(again.dmin = to_half(dmin));
  if (super.choose(d, dmin, scales, minima, again) < error) block = again;
  for (int g = 0; g < super.kGroups; ++g)
    assign<vectors>(super.group(g), grid, from_half(block.d) * block.scales[g],
                    from_half(block.dmin) * block.mins[g], {}, block.codes.data() + g * vectors * kLanes);
}

/// A type's table of levels, in ascending order, and the way back to codes.
struct LevelTable {
  Table grid{};
  std::array<uint8_t, 256> codes{};

  explicit LevelTable(GgmlType type) {
    std::array<std::pair<int, uint8_t>, 16> sorted;
    for (uint8_t code = 0; code < 16; ++code) sorted[code] = {ggml_levels(type)[code], code};
    std::sort(sorted.begin(), sorted.end());
    for (const auto& [level, code] : sorted) {
      if (grid.count > 0 && static_cast<float>(level) == grid.levels[grid.count - 1]) continue;  // -0
      grid.levels[grid.count++] = static_cast<float>(level);
      codes[static_cast<size_t>(level + 128)] = code;
    }
    for (int k = 0; k + 1 < grid.count; ++k) {
      grid.middles[k] = 0.5f * (grid.levels[k] + grid.levels[k + 1]);
      grid.steps[k] = grid.levels[k + 1] - grid.levels[k];
    }
  }
};

/// A power of two that is one or two binary places around the largest magnitude's.
LATHE_INLINE void mxfp4_block(const Values& v, const LevelTable& table, GgmlBlock& block) {
  float largest = 0;
  for (int i = 0; i < 2 * kLanes; ++i) largest = std::max(largest, std::abs(v.x[i]));
  if (largest == 0) return;
  // Levels are twice E2M1's values: the largest, 12, lies in [2^3, 2^4).
  const int middle = std::ilogb(largest) - 3 + 128;
  float best = 0;
  bool any = false;
  for (int e = std::max(0, middle - 1); e <= std::min(254, middle + 1); ++e) {
    const float scale = std::ldexp(1.0f, e - 128);
    const float error = error_of<2>(v, table.grid, scale, 0);
    if (any && !(error < best)) continue;
    any = true;
    best = error;
    block.d = static_cast<uint16_t>(e);
  }
  if (!any) return;
  assign<2>(v, table.grid, std::ldexp(1.0f, block.d - 128), 0, {0, table.codes.data()}, block.codes.data());
}

LATHE_CLONES void q8_0(const Values& v, GgmlBlock& block) {
  // -128 is left out: kernels that multiply magnitudes by signs can't negate it.
  flat_block<2>(v, Uniform{-127, 127}, {0.97f, 1.0f, 4}, {128}, block);
}
LATHE_CLONES void q4_0(const Values& v, GgmlBlock& block) {
  flat_block<2>(v, Uniform{-8, 7}, {0.7f, 1.1f, 10}, {8}, block);
}
LATHE_CLONES void q5_0(const Values& v, GgmlBlock& block) {
  flat_block<2>(v, Uniform{-16, 15}, {0.8f, 1.06f, 10}, {16}, block);
}
LATHE_CLONES void q4_1(const Values& v, GgmlBlock& block) {
  affine_block(v, Uniform{0, 15}, {0.9f, 1.5f, 14}, block);
}
LATHE_CLONES void q5_1(const Values& v, GgmlBlock& block) {
  affine_block(v, Uniform{0, 31}, {0.95f, 1.3f, 14}, block);
}
LATHE_CLONES void q2_k(const Values& v, GgmlBlock& block) {
  affine_super<1>(v, Uniform{0, 3}, 15, {0.8f, 2.2f, 18}, block);
}
LATHE_CLONES void q3_k(const Values& v, GgmlBlock& block) {
  scaled_super<1>(v, Uniform{-4, 3}, 32, {0.6f, 1.15f, 12}, {4}, block);
}
LATHE_CLONES void q4_k(const Values& v, GgmlBlock& block) {
  affine_super<2>(v, Uniform{0, 15}, 63, {0.9f, 1.5f, 14}, block);
}
LATHE_CLONES void q5_k(const Values& v, GgmlBlock& block) {
  affine_super<2>(v, Uniform{0, 31}, 63, {0.95f, 1.3f, 14}, block);
}
LATHE_CLONES void q6_k(const Values& v, GgmlBlock& block) {
  scaled_super<1>(v, Uniform{-32, 31}, 128, {0.88f, 1.02f, 8}, {32}, block);
}
LATHE_CLONES void ternary(const Values& v, GgmlBlock& block) {
  flat_block<16>(v, Uniform{-1, 1}, {0.6f, 6.0f, 40}, {1}, block);
}
LATHE_CLONES void iq4_nl(const Values& v, GgmlBlock& block) {
  static const LevelTable table(GgmlType::IQ4_NL);
  flat_block<2>(v, table.grid, {0.7f, 1.08f, 8}, {0, table.codes.data()}, block);
}
LATHE_CLONES void iq4_xs(const Values& v, GgmlBlock& block) {
  static const LevelTable table(GgmlType::IQ4_XS);
  scaled_super<2>(v, table.grid, 32, {0.7f, 1.08f, 8}, {0, table.codes.data()}, block);
}
LATHE_CLONES void mxfp4(const Values& v, GgmlBlock& block) {
  static const LevelTable table(GgmlType::MXFP4);
  mxfp4_block(v, table, block);
}

using Search = void (*)(const Values&, GgmlBlock&);

Search search_of(GgmlType type) {
  switch (type) {
    using enum GgmlType;
    case Q8_0:
      return q8_0;
    case Q4_0:
      return q4_0;
    case Q4_1:
      return q4_1;
    case Q5_0:
      return q5_0;
    case Q5_1:
      return q5_1;
    case Q2_K:
      return q2_k;
    case Q3_K:
      return q3_k;
    case Q4_K:
      return q4_k;
    case Q5_K:
      return q5_k;
    case Q6_K:
      return q6_k;
    case IQ4_NL:
      return iq4_nl;
    case IQ4_XS:
      return iq4_xs;
    case TQ1_0:
    case TQ2_0:
      return ternary;
    case MXFP4:
      return mxfp4;
    case F32:
    case F16:
    case BF16:
      break;
  }
  return nullptr;
}

bool all_zero(const float* values, int64_t count) {
  return std::all_of(values, values + count, [](float value) { return value == 0; });
}

}  // namespace

void quantize_ggml(const float* weight, const float* importance, int64_t rows, int64_t columns, GgmlType type,
                   uint8_t* out) {
  const GgmlTraits& format = traits(type);
  const Search search = search_of(type);
  std::array<float, kSuper> ones;
  ones.fill(1);
  const int64_t grain = std::max<int64_t>(1, kGrainValues / std::max<int64_t>(1, columns));
  at::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      uint8_t* bytes = out + row * row_bytes(type, columns);
      for (int64_t i = 0; i < columns; i += format.length, bytes += format.bytes) {
        // Where no input ever was, all columns count alike.
        const bool alike = importance == nullptr || all_zero(importance + i, format.length);
        GgmlBlock block;
        search({weight + row * columns + i, alike ? ones.data() : importance + i}, block);
        pack(type, block, bytes);
      }
    }
  });
}

}  // namespace lathe::kernels::cpu
