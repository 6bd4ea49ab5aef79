// Fits of one sub-block: the scale, or scale and minimum, under which rounding costs least. Vectors of 16
// lanes in a fixed order, so the same bits on every instruction set (compile without contraction to FMA).
#pragma once

#include <cstdint>
#include <cstring>

namespace lathe::kernels::ggml {

#define LATHE_INLINE inline __attribute__((always_inline))

using Lanes = float __attribute__((vector_size(64)));
inline constexpr int kLanes = 16;

LATHE_INLINE Lanes load(const float* values) {
  Lanes lanes;
  std::memcpy(&lanes, values, sizeof lanes);
  return lanes;
}

LATHE_INLINE float sum(const Lanes& lanes) {
  float part[kLanes];
  std::memcpy(part, &lanes, sizeof part);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) part[i] += part[i + half];
  }
  return part[0];
}

/// Levels lo, lo + 1, ..., hi.
struct Uniform {
  float lo, hi;
  LATHE_INLINE Lanes nearest(Lanes v) const {
    constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves no fraction; ties to even
    v = v < lo ? lo - (Lanes){} : v;
    v = v > hi ? hi - (Lanes){} : v;
    return (v + kRound) - kRound;
  }
  LATHE_INLINE float bottom() const { return lo; }
  LATHE_INLINE float top() const { return hi; }
};

/// At most 16 levels in ascending order; between two, the nearer one.
struct Table {
  int count;
  float levels[16], middles[16], steps[16];

  LATHE_INLINE Lanes nearest(const Lanes& v) const {
    Lanes level = (Lanes){} + levels[0];
    for (int k = 0; k + 1 < count; ++k) level += v > middles[k] ? steps[k] - (Lanes){} : (Lanes){};
    return level;
  }
  LATHE_INLINE float bottom() const { return levels[0]; }
  LATHE_INLINE float top() const { return levels[count - 1]; }
};

/// `vectors` times 16 values with their importances.
struct Values {
  const float* x;
  const float* w;
};

/// Sums that a least-squares scale needs: of w x l and w l l.
struct ScaleSums {
  float xl = 0, ll = 0;
  LATHE_INLINE float scale() const { return ll > 0 ? xl / ll : 0.0f; }
  /// By how much the scale lowers the sum of w x x.
  LATHE_INLINE float gain() const { return ll > 0 ? xl * xl / ll : 0.0f; }
};

template <int vectors, class Grid>
LATHE_INLINE ScaleSums scale_sums(const Values& v, const Grid& grid, float inverse) {
  Lanes xl{}, ll{};
  for (int k = 0; k < vectors; ++k) {
    const Lanes x = load(v.x + k * kLanes), w = load(v.w + k * kLanes);
    const Lanes level = grid.nearest(x * inverse);
    const Lanes wl = w * level;
    xl += wl * x;
    ll += wl * level;
  }
  return {sum(xl), sum(ll)};
}

/// The sum of w (x + minimum - scale * level)^2 with the nearest levels.
template <int vectors, class Grid>
LATHE_INLINE float error_of(const Values& v, const Grid& grid, float scale, float minimum) {
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  Lanes total{};
  for (int k = 0; k < vectors; ++k) {
    const Lanes x = load(v.x + k * kLanes) + minimum;
    const Lanes difference = x - scale * grid.nearest(x * inverse);
    total += load(v.w + k * kLanes) * (difference * difference);
  }
  return sum(total);
}

/// Which scales are tried: the farthest value falls on the grid's end times each factor.
struct Factors {
  float first, last;
  int count;
};

/// The best of the candidates, then two rounds of (levels for the scale, scale for the levels).
template <int vectors, class Grid>
LATHE_INLINE float fit_scale(const Values& v, const Grid& grid, const Factors& factors) {
  float farthest = 0;
  for (int i = 0; i < vectors * kLanes; ++i)
    farthest = v.x[i] * v.x[i] > farthest * farthest ? v.x[i] : farthest;
  if (farthest == 0) return 0;
  ScaleSums best;
  const bool mirrored = grid.bottom() == -grid.top();
  for (const float end : {grid.bottom(), grid.top()}) {
    for (int k = 0; k < factors.count; ++k) {
      const float step = static_cast<float>(k) / static_cast<float>(factors.count - 1);
      const float factor = factors.first + (factors.last - factors.first) * step;
      const ScaleSums sums = scale_sums<vectors>(v, grid, factor * end / farthest);
      if (sums.gain() > best.gain()) best = sums;
    }
    if (mirrored) break;
  }
  for (int round = 0; round < 2 && best.scale() != 0; ++round) {
    const ScaleSums sums = scale_sums<vectors>(v, grid, 1.0f / best.scale());
    if (!(sums.gain() > best.gain())) break;
    best = sums;
  }
  return best.scale();
}

struct Affine {
  float scale = 0, minimum = 0;  // value = scale * level - minimum
  float error = 0;
};

/// Least squares of scale and minimum for the levels that `scale` and `minimum` give; minimum >= 0 where it
/// is stored without a sign. `error` is that of the answer with these levels, less the sum of w x x.
template <int vectors>
LATHE_INLINE Affine refit(const Values& v, const Uniform& grid, float inverse, float minimum,
                          bool nonnegative) {
  Lanes l1{}, l2{}, xl{}, x1{}, w1{};
  for (int k = 0; k < vectors; ++k) {
    const Lanes x = load(v.x + k * kLanes), w = load(v.w + k * kLanes);
    const Lanes level = grid.nearest((x + minimum) * inverse);
    const Lanes wl = w * level;
    w1 += w, x1 += w * x, l1 += wl, l2 += wl * level, xl += wl * x;
  }
  const float sw = sum(w1), sx = sum(x1), sl = sum(l1), sll = sum(l2), sxl = sum(xl);
  const float determinant = sw * sll - sl * sl;
  Affine fit;
  if (determinant > 0) {
    fit.scale = (sw * sxl - sx * sl) / determinant;
    fit.minimum = (sl * sxl - sll * sx) / determinant;
  }
  if (determinant <= 0 || (nonnegative && fit.minimum < 0)) {
    fit.minimum = 0;
    fit.scale = sll > 0 ? sxl / sll : 0.0f;
  }
  fit.error = fit.scale * (fit.scale * sll - 2 * fit.minimum * sl - 2 * sxl) +
              fit.minimum * (fit.minimum * sw + 2 * sx);
  return fit;
}

/// Levels 0 .. grid.hi. Candidates shrink the span of the values; the best is refined once more.
template <int vectors>
LATHE_INLINE Affine fit_affine(const Values& v, const Uniform& grid, const Factors& factors,
                               bool nonnegative) {
  float lo = v.x[0], hi = v.x[0];
  for (int i = 0; i < vectors * kLanes; ++i) {
    lo = v.x[i] < lo ? v.x[i] : lo;
    hi = v.x[i] > hi ? v.x[i] : hi;
  }
  if (nonnegative && lo > 0) lo = 0;
  if (hi <= lo) return {0, nonnegative ? (lo < 0 ? -lo : 0.0f) : -lo, 0};
  Affine best;
  for (int k = 0; k < factors.count; ++k) {
    const float step = static_cast<float>(k) / static_cast<float>(factors.count - 1);
    const float factor = factors.first + (factors.last - factors.first) * step;
    const Affine fit = refit<vectors>(v, grid, factor * grid.hi / (hi - lo), -lo, nonnegative);
    if (k == 0 || fit.error < best.error) best = fit;
  }
  for (int round = 0; round < 2 && best.scale > 0; ++round) {
    const Affine fit = refit<vectors>(v, grid, 1.0f / best.scale, best.minimum, nonnegative);
    if (!(fit.error < best.error)) break;
    best = fit;
  }
  return best;
}

}  // namespace lathe::kernels::ggml
