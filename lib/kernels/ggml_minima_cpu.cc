// Super-blocks of 256 values whose sub-blocks have scales and minima, d and dmin times codes: Q2_K, Q4_K,
// Q5_K.
#include "lib/kernels/ggml_search.h"
#include "lib/kernels/target_clones.h"

namespace lathe::kernels::ggml {
namespace {

/// n values to a sub-block: one or two super-blocks side by side. Codes of scales and minima: 0 .. highest.
template <int n>
struct AffineSupers {
  static constexpr int kGroups = 256 / n, kSupers = kLanes / kGroups;

  struct Choice {
    float d[kSupers], dmin[kSupers];       // halves
    float scales[kLanes], minima[kLanes];  // codes
    float error[kSupers];
  };

  const Batch<n>& v;
  const AffineSums fixed;
  const Uniform& grid;
  const Uniform codes;

  LATHE_INLINE Lanes by_lane(const float* of_super) const {
    float lanes[kLanes];
    for (int b = 0; b < kLanes; ++b) lanes[b] = of_super[b / kGroups];
    return load(lanes);
  }

  LATHE_INLINE void first_steps(const Affine& wanted, Choice& choice) const {
    const LevelSums sums = level_sums(v, grid, inverse_of(wanted.scale), wanted.minimum);
    float scales[kLanes], minima[kLanes], scale_shares[kLanes], shares[kLanes];
    store(wanted.scale, scales);
    store(wanted.minimum, minima);
    store(sums.ll, scale_shares);
    store(fixed.w, shares);
    for (int s = 0; s < kSupers; ++s) {
      const int at = s * kGroups;
      choice.d[s] = from_half(stored_half(fit_step(scales + at, scale_shares + at, kGroups, codes)));
      choice.dmin[s] = from_half(stored_half(fit_step(minima + at, shares + at, kGroups, codes)));
    }
  }

  LATHE_INLINE void choose_codes(const Affine& wanted, Choice& choice) const {
    const Lanes d = by_lane(choice.d), dmin = by_lane(choice.dmin);
    const Lanes middle = codes.nearest(wanted.scale * inverse_of(d));
    const Lanes middle_minimum = codes.nearest(wanted.minimum * inverse_of(dmin));
    Lanes scale = middle, minimum = middle_minimum, error = error_of(v, grid, d * scale, dmin * minimum);
    for (int aside = 0; aside < 9; ++aside) {
      if (aside == 4) continue;
      const Lanes s = codes.nearest(middle + static_cast<float>(aside / 3 - 1));
      const Lanes m = codes.nearest(middle_minimum + static_cast<float>(aside % 3 - 1));
      const Lanes cost = error_of(v, grid, d * s, dmin * m);
      const auto better = cost < error;
      scale = better ? s : scale;
      minimum = better ? m : minimum;
      error = better ? cost : error;
    }
    store(scale, choice.scales);
    store(minimum, choice.minima);
    float errors[kLanes];
    store(error, errors);
    for (int s = 0; s < kSupers; ++s) {
      choice.error[s] = 0;
      for (int g = 0; g < kGroups; ++g) choice.error[s] += errors[s * kGroups + g];
    }
  }

  /// Least squares of d and dmin for the codes and levels at hand: value = d (s l) - dmin m.
  LATHE_INLINE void refit_steps(Choice& choice) const {
    const Lanes s = load(choice.scales), m = load(choice.minima);
    const LevelSums sums = level_sums(v, grid, inverse_of(by_lane(choice.d) * s), by_lane(choice.dmin) * m);
    float ss[kLanes], sm[kLanes], mm[kLanes], sx[kLanes], mx[kLanes];
    store(s * s * sums.ll, ss);
    store(s * m * sums.l, sm);
    store(m * m * fixed.w, mm);
    store(s * sums.xl, sx);
    store(m * fixed.x, mx);
    for (int super = 0; super < kSupers; ++super) {
      double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
      for (int b = super * kGroups; b < (super + 1) * kGroups; ++b)
        aa += ss[b], ab += sm[b], bb += mm[b], ax += sx[b], bx += mx[b];
      const double determinant = aa * bb - ab * ab;
      if (determinant > 1e-6 * aa * bb) {
        const double d = (ax * bb - bx * ab) / determinant, dmin = (ab * ax - aa * bx) / determinant;
        if (!(d > 0 && dmin >= 0)) continue;
        choice.d[super] = from_half(stored_half(static_cast<float>(d)));
        choice.dmin[super] = from_half(stored_half(static_cast<float>(dmin)));
      } else if (bb == 0 && aa > 0 && ax > 0) {
        choice.d[super] = from_half(stored_half(static_cast<float>(ax / aa)));
      }
    }
  }

  LATHE_INLINE Choice search(const Factors& factors) const {
    Affine wanted = fit_affine(v, grid, fixed, factors, true);
    wanted.scale = larger(wanted.scale, Lanes{});
    Choice best, other;
    first_steps(wanted, best);
    choose_codes(wanted, best);
    other = best;
    refit_steps(other);
    choose_codes(wanted, other);
    for (int s = 0; s < kSupers; ++s) {
      if (!(other.error[s] < best.error[s])) continue;
      best.d[s] = other.d[s], best.dmin[s] = other.dmin[s];
      for (int b = s * kGroups; b < (s + 1) * kGroups; ++b)
        best.scales[b] = other.scales[b], best.minima[b] = other.minima[b];
    }
    return best;
  }

  LATHE_INLINE void finish(const Choice& choice, GgmlBlock* blocks) const {
    for (int b = 0; b < kLanes; ++b) {
      GgmlBlock& block = blocks[b / kGroups];
      const auto g = static_cast<size_t>(b % kGroups);
      block.d = stored_half(choice.d[b / kGroups]);
      block.dmin = stored_half(choice.dmin[b / kGroups]);
      block.scales[g] = static_cast<uint8_t>(choice.scales[b]);
      block.mins[g] = static_cast<uint8_t>(choice.minima[b]);
    }
    assign(v, grid, by_lane(choice.d) * load(choice.scales), by_lane(choice.dmin) * load(choice.minima),
           kGroups, blocks);
  }
};

template <int n>
LATHE_INLINE void with_minima(const SubBlocks& from, const Uniform& grid, float highest,
                              const Factors& factors, GgmlBlock* blocks) {
  Batch<n> v;
  gather(from, v);
  const AffineSupers<n> supers{v, affine_sums(v), grid, {0, highest, 0}};
  supers.finish(supers.search(factors), blocks);
}

}  // namespace

LATHE_CLONES void search_q2_k(const SubBlocks& from, GgmlBlock* blocks) {
  with_minima<16>(from, Uniform{0, 3, 0}, 15, {0.8f, 2.2f, 12, 3}, blocks);
}
LATHE_CLONES void search_q4_k(const SubBlocks& from, GgmlBlock* blocks) {
  with_minima<32>(from, Uniform{0, 15, 0}, 63, {0.94f, 1.3f, 10, 2}, blocks);
}
LATHE_CLONES void search_q5_k(const SubBlocks& from, GgmlBlock* blocks) {
  with_minima<32>(from, Uniform{0, 31, 0}, 63, {0.97f, 1.12f, 10, 2}, blocks);
}

}  // namespace lathe::kernels::ggml
