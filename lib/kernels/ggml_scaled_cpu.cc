// Super-blocks of 256 values whose sub-blocks have scales, d times a code: Q3_K, Q6_K, IQ4_XS.
#include "lib/kernels/ggml_search.h"
#include "lib/kernels/target_clones.h"

namespace lathe::kernels::ggml {
namespace {

/// n values to a sub-block: one or two super-blocks side by side. Scale codes count from -offset.
template <int n, class Grid>
struct ScaledSupers {
  static constexpr int kGroups = 256 / n, kSupers = kLanes / kGroups;

  /// One answer for all 16 sub-blocks.
  struct Choice {
    float d[kSupers];     // halves
    float codes[kLanes];  // less the offset
    float error[kSupers];
  };

  const Batch<n>& v;
  const Grid& grid;
  float offset;

  LATHE_INLINE Lanes by_lane(const float* of_super) const {
    float lanes[kLanes];
    for (int b = 0; b < kLanes; ++b) lanes[b] = of_super[b / kGroups];
    return load(lanes);
  }

  /// The steps that suit the wanted scales best.
  LATHE_INLINE void first_steps(const ScaleSums& wanted, Choice& choice) const {
    const Uniform codes{-offset, offset - 1, 0};
    float scales[kLanes], shares[kLanes];
    store(wanted.scale(), scales);
    store(wanted.ll, shares);
    for (int s = 0; s < kSupers; ++s)
      choice.d[s] =
          from_half(stored_half(fit_step(scales + s * kGroups, shares + s * kGroups, kGroups, codes)));
  }

  /// For given steps: the codes next to the wanted scales that cost least.
  LATHE_INLINE void choose_codes(const Lanes& wanted, Choice& choice) const {
    const Uniform codes{-offset, offset - 1, 0};
    const Lanes d = by_lane(choice.d), middle = codes.nearest(wanted * inverse_of(d));
    Lanes code = middle, error = error_of(v, grid, d * code, Lanes{});
    for (const float aside : {-1.0f, 1.0f}) {
      const Lanes other = codes.nearest(middle + aside), cost = error_of(v, grid, d * other, Lanes{});
      const auto better = cost < error;
      code = better ? other : code;
      error = better ? cost : error;
    }
    store(code, choice.codes);
    float errors[kLanes];
    store(error, errors);
    for (int s = 0; s < kSupers; ++s) {
      choice.error[s] = 0;
      for (int g = 0; g < kGroups; ++g) choice.error[s] += errors[s * kGroups + g];
    }
  }

  /// Least squares of the steps for the codes and levels at hand.
  LATHE_INLINE void refit_steps(Choice& choice) const {
    const Lanes code = load(choice.codes);
    const ScaleSums sums = scale_sums(v, grid, inverse_of(by_lane(choice.d) * code));
    float above[kLanes], below[kLanes];
    store(sums.xl * code, above);
    store(sums.ll * (code * code), below);
    for (int s = 0; s < kSupers; ++s) {
      float xl = 0, ll = 0;
      for (int g = 0; g < kGroups; ++g) xl += above[s * kGroups + g], ll += below[s * kGroups + g];
      if (ll > 0) choice.d[s] = from_half(stored_half(xl / ll));
    }
  }

  LATHE_INLINE Choice search(const Factors& factors) const {
    const ScaleSums wanted = fit_scale(v, grid, factors);
    Choice best, other;
    first_steps(wanted, best);
    choose_codes(wanted.scale(), best);
    other = best;
    refit_steps(other);
    choose_codes(wanted.scale(), other);
    for (int s = 0; s < kSupers; ++s) {
      if (!(other.error[s] < best.error[s])) continue;
      best.d[s] = other.d[s];
      for (int b = s * kGroups; b < (s + 1) * kGroups; ++b) best.codes[b] = other.codes[b];
    }
    return best;
  }

  LATHE_INLINE void finish(const Choice& choice, GgmlBlock* blocks) const {
    for (int b = 0; b < kLanes; ++b) {
      blocks[b / kGroups].d = stored_half(choice.d[b / kGroups]);
      blocks[b / kGroups].scales[static_cast<size_t>(b % kGroups)] =
          static_cast<uint8_t>(static_cast<int>(choice.codes[b] + offset));
    }
    assign(v, grid, by_lane(choice.d) * load(choice.codes), Lanes{}, kGroups, blocks);
  }
};

template <int n, class Grid>
LATHE_INLINE void scaled(const SubBlocks& from, const Grid& grid, float offset, const Factors& factors,
                         GgmlBlock* blocks) {
  Batch<n> v;
  gather(from, v);
  const ScaledSupers<n, Grid> supers{v, grid, offset};
  supers.finish(supers.search(factors), blocks);
}

}  // namespace

LATHE_CLONES void search_q3_k(const SubBlocks& from, GgmlBlock* blocks) {
  scaled<16>(from, Uniform{-4, 3, 4}, 32, {0.6f, 2.0f, 16}, blocks);
}
LATHE_CLONES void search_q6_k(const SubBlocks& from, GgmlBlock* blocks) {
  scaled<16>(from, Uniform{-32, 31, 32}, 128, {0.88f, 1.02f, 8}, blocks);
}
LATHE_CLONES void search_iq4_xs(const SubBlocks& from, GgmlBlock* blocks) {
  scaled<32>(from, Table<kIq4Levels>{}, 32, {0.72f, 1.5f, 10}, blocks);
}

}  // namespace lathe::kernels::ggml
