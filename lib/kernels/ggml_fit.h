// Fits of 16 sub-blocks at once: the scale, or scale and minimum, under which rounding costs least.
#pragma once

#include "lib/kernels/ggml_lanes.h"

namespace lathe::kernels::ggml {

/// 16 sub-blocks of n values and importances, value by value: lane b of x[i] is value i of sub-block b.
template <int n>
struct Batch {
  Lanes x[n], w[n];
};

/// Where 16 sub-blocks' values and importances stand.
struct SubBlocks {
  const float* x[kLanes];
  const float* w[kLanes];
};

template <int n>
LATHE_INLINE void gather(const float* const* from, Lanes* to) {
  for (int i = 0; i < n; i += kLanes) {
    for (int b = 0; b < kLanes; ++b) to[i + b] = load(from[b] + i);
    transpose(to + i);
  }
}

template <int n>
LATHE_INLINE void gather(const SubBlocks& blocks, Batch<n>& batch) {
  gather<n>(blocks.x, batch.x);
  gather<n>(blocks.w, batch.w);
}

/// Which spans of the grid are tried: the farthest value falls on the grid's end times each factor.
struct Factors {
  float first, last;
  int count;
  int bottoms =
      1;  // where the grid's lowest level falls: on the lowest value, 12 % of the span above it, ...
  LATHE_INLINE float at(int k) const {
    return first + (last - first) * (static_cast<float>(k) / static_cast<float>(count - 1));
  }
};

/// The sum of w (x + minimum - scale * level)^2 with the nearest levels.
template <int n, class Grid>
LATHE_INLINE Lanes error_of(const Batch<n>& v, const Grid& grid, const Lanes& scale, const Lanes& minimum) {
  const Lanes inverse = inverse_of(scale);
  Lanes total{};
  for (int i = 0; i < n; ++i) {
    const Lanes x = v.x[i] + minimum;
    const Lanes difference = x - scale * grid.nearest(x * inverse);
    total += v.w[i] * (difference * difference);
  }
  return total;
}

/// Sums that a least-squares scale needs: of w x l and w l l.
struct ScaleSums {
  Lanes xl{}, ll{};
  LATHE_INLINE Lanes scale() const { return ratio(xl, ll); }
  /// By how much the scale lowers the sum of w x x.
  LATHE_INLINE Lanes gain() const { return ratio(xl * xl, ll); }
  LATHE_INLINE void take_if_better(const ScaleSums& other) {
    const auto better = other.gain() > gain();
    xl = better ? other.xl : xl;
    ll = better ? other.ll : ll;
  }
};

template <int n, class Grid>
LATHE_INLINE ScaleSums scale_sums(const Batch<n>& v, const Grid& grid, const Lanes& inverse) {
  ScaleSums sums;
  for (int i = 0; i < n; ++i) {
    const Lanes level = grid.nearest(v.x[i] * inverse);
    const Lanes wl = v.w[i] * level;
    sums.xl += wl * v.x[i];
    sums.ll += wl * level;
  }
  return sums;
}

/// The value farthest from 0, with its sign.
template <int n>
LATHE_INLINE Lanes farthest_of(const Batch<n>& v) {
  Lanes farthest = v.x[0];
  for (int i = 1; i < n; ++i) farthest = v.x[i] * v.x[i] > farthest * farthest ? v.x[i] : farthest;
  return farthest;
}

/// The best of the candidates, with the farthest value at either end of the grid, then two rounds of (levels
/// for the scale, scale for the levels).
template <int n, class Grid>
LATHE_INLINE ScaleSums fit_scale(const Batch<n>& v, const Grid& grid, const Factors& factors) {
  const Lanes unit = inverse_of(farthest_of(v));
  ScaleSums best;
  const bool mirrored = grid.bottom() == -grid.top();
  for (const float end : {grid.bottom(), grid.top()}) {
    for (int k = 0; k < factors.count; ++k)
      best.take_if_better(scale_sums(v, grid, unit * (factors.at(k) * end)));
    if (mirrored) break;
  }
  for (int round = 0; round < 2; ++round) best.take_if_better(scale_sums(v, grid, inverse_of(best.scale())));
  return best;
}

/// value = scale * level - minimum.
struct Affine {
  Lanes scale{}, minimum{};
  Lanes error{};  // less the sum of w x x
  LATHE_INLINE void take_if_better(const Affine& other) {
    const auto better = other.error < error;
    scale = better ? other.scale : scale;
    minimum = better ? other.minimum : minimum;
    error = better ? other.error : error;
  }
};

/// What does not depend on the levels.
struct AffineSums {
  Lanes w{}, x{};
};

template <int n>
LATHE_INLINE AffineSums affine_sums(const Batch<n>& v) {
  AffineSums sums;
  for (int i = 0; i < n; ++i) {
    sums.w += v.w[i];
    sums.x += v.w[i] * v.x[i];
  }
  return sums;
}

/// Sums over levels for least squares of scale and minimum.
struct LevelSums {
  Lanes l{}, ll{}, xl{};
};

template <int n>
LATHE_INLINE LevelSums level_sums(const Batch<n>& v, const Uniform& grid, const Lanes& inverse,
                                  const Lanes& minimum) {
  LevelSums sums;
  for (int i = 0; i < n; ++i) {
    const Lanes level = grid.nearest((v.x[i] + minimum) * inverse);
    const Lanes wl = v.w[i] * level;
    sums.l += wl;
    sums.ll += wl * level;
    sums.xl += wl * v.x[i];
  }
  return sums;
}

/// Least squares of scale and minimum for the levels that `inverse` and `minimum` give; minimum >= 0 where it
/// is stored without a sign.
template <int n>
LATHE_INLINE Affine refit(const Batch<n>& v, const Uniform& grid, const AffineSums& fixed,
                          const Lanes& inverse, const Lanes& minimum, bool nonnegative) {
  constexpr float kSingular = 1e-6f;
  const LevelSums sums = level_sums(v, grid, inverse, minimum);
  const Lanes determinant = fixed.w * sums.ll - sums.l * sums.l;
  const auto regular = determinant > kSingular * (fixed.w * sums.ll);
  const Lanes safe = regular ? determinant : splat(1);
  Affine fit;
  fit.minimum = regular ? (sums.l * sums.xl - sums.ll * fixed.x) / safe : Lanes{};
  fit.scale = (fixed.w * sums.xl - fixed.x * sums.l) / safe;
  const auto through_zero = regular ? (nonnegative ? fit.minimum < 0 : fit.minimum != fit.minimum) : ~regular;
  fit.minimum = through_zero ? Lanes{} : fit.minimum;
  fit.scale = through_zero ? ratio(sums.xl, sums.ll) : fit.scale;
  fit.error = fit.scale * (fit.scale * sums.ll - 2 * (fit.minimum * sums.l) - 2 * sums.xl) +
              fit.minimum * (fit.minimum * fixed.w + 2 * fixed.x);
  return fit;
}

/// Levels 0 .. grid.hi. Candidates stretch or shrink the span of the values; the best is refined.
template <int n>
LATHE_INLINE Affine fit_affine(const Batch<n>& v, const Uniform& grid, const AffineSums& fixed,
                               const Factors& factors, bool nonnegative) {
  Lanes lo = v.x[0], hi = v.x[0];
  for (int i = 1; i < n; ++i) {
    lo = smaller(lo, v.x[i]);
    hi = larger(hi, v.x[i]);
  }
  if (nonnegative) lo = smaller(lo, Lanes{});
  const Lanes unit = inverse_of(hi - lo) * grid.hi;
  // Where all values are alike: no scale, and the minimum for all.
  Affine best{{}, -lo, -lo * (-lo * fixed.w + 2 * fixed.x)};
  for (int raised = 0; raised < factors.bottoms; ++raised) {
    const Lanes bottom = lo + (hi - lo) * (0.4f / grid.hi * static_cast<float>(raised));
    for (int k = 0; k < factors.count; ++k)
      best.take_if_better(refit(v, grid, fixed, unit * factors.at(k), -bottom, nonnegative));
  }
  for (int round = 0; round < 4; ++round)
    best.take_if_better(refit(v, grid, fixed, inverse_of(best.scale), best.minimum, nonnegative));
  return best;
}

/// The step under which `count` <= 16 numbers, with `shares` as their weights, are nearest to whole multiples
/// of it within the grid. 16 candidates in lanes; then two rounds of least squares.
LATHE_INLINE float fit_step(const float* numbers, const float* shares, int count, const Uniform& grid) {
  float farthest = 0;
  for (int i = 0; i < count; ++i)
    farthest = numbers[i] * numbers[i] > farthest * farthest ? numbers[i] : farthest;
  const Factors factors{0.85f, 1.0f, grid.lo < 0 ? kLanes / 2 : kLanes};
  float spans[kLanes];
  for (int k = 0; k < factors.count; ++k) {
    spans[k] = factors.at(k) * grid.hi;
    if (grid.lo < 0) spans[k + factors.count] = factors.at(k) * grid.lo;
  }
  const Lanes unit = inverse_of(splat(farthest));
  float step = 0;
  Lanes inverses = unit * load(spans);
  for (int round = 0; round < 3; ++round) {
    ScaleSums sums;
    for (int i = 0; i < count; ++i) {
      const Lanes level = grid.nearest(numbers[i] * inverses);
      const Lanes wl = shares[i] * level;
      sums.xl += wl * numbers[i];
      sums.ll += wl * level;
    }
    float gains[kLanes], scales[kLanes];
    store(sums.gain(), gains);
    store(sums.scale(), scales);
    int best = 0;
    for (int k = 1; k < kLanes; ++k) best = gains[k] > gains[best] ? k : best;
    step = scales[best];
    inverses = inverse_of(splat(step));
  }
  return step;
}

}  // namespace lathe::kernels::ggml
